#!/usr/bin/env bash
# Measures training and inference of dlopt, PyTorch and Keras on Fashion-MNIST, in interleaved runs.
#
#   benches/training.sh WORK [--rounds 3] [--epochs 2] [--only cnn,cnn-inference,lstm,gru,resnet20,mobilenet]
#                            [--without compiled] [--threads 2] [--samples 12800] [--quick]
#
# WORK, outside the repository, takes two Python environments (PyTorch for the CPU, Keras on TensorFlow), the data and
# the checkpoints: 4 GB in all, minutes the first time. Keep the machine quiet: threads of PyTorch and TensorFlow wait
# for each other by spinning. Prints Markdown on standard output and writes WORK/training.json. --quick takes minutes
# and only shows that everything runs. DLOPT names another binary to measure, DLOPT_TORCH_VENV and DLOPT_KERAS_VENV
# other environments.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift

# Versions of the day; the environments are made once and the versions are printed with the figures.
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 none; do
  [ "$python" != none ] || { echo "error: no Python 3.11 or newer with the module \`venv\`" >&2; exit 1; }
  "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done
torch=${DLOPT_TORCH_VENV:-$work/venv-torch}
keras=${DLOPT_KERAS_VENV:-$work/venv-keras}
"$python" -B "$here/../scripts/torch_venv.py" "$torch" numpy safetensors
if ! "$keras/bin/python" -c 'import importlib.metadata as m; m.version("keras"); m.version("safetensors")' 2>/dev/null; then
  "$python" -m venv "$keras"
  "$keras/bin/python" -m pip install --quiet --disable-pip-version-check tensorflow-cpu keras numpy safetensors
  # Start-up is measured, so modules are compiled here and not at their first import.
  "$keras/bin/python" -m compileall -q -j 0 "$keras/lib" >/dev/null 2>&1 || true
fi

if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
"$here/../scripts/fetch-data.sh" fashion-mnist "$work/data" >/dev/null

"$python" -B "$here/training/compare.py" "$DLOPT" "$work" "$torch/bin/python" "$keras/bin/python" "$@"

#!/usr/bin/env bash
# Proves that weights move between dlopt, PyTorch and Keras in both directions, by comparing logits.
#
#   scripts/check-weights.sh [WORK]
#
# Makes two Python environments, in data/ or where DLOPT_TORCH_VENV and DLOPT_KERAS_VENV say, and
# fetches Fashion-MNIST and the series into data/: 2 GB and some minutes the first time. WORK (default: a temporary
# folder, deleted afterwards) takes datasets and checkpoints, 100 MB. DLOPT names another binary to check. Prints a
# Markdown table; the exit code is 1 if something does not hold.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)

case ${1:-} in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit ;; esac
if [ $# -gt 0 ]; then
  mkdir -p "$1"
  work=$(cd "$1" && pwd)
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi

# Whichever Python is new enough and can make environments.
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 none; do
  [ "$python" != none ] || { echo "error: no Python 3.11 or newer with the module \`venv\`" >&2; exit 1; }
  "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done
torch=${DLOPT_TORCH_VENV:-$root/data/venv-torch}
keras=${DLOPT_KERAS_VENV:-$root/data/venv-keras}
"$python" -B "$here/torch_venv.py" "$torch" numpy safetensors
if ! "$keras/bin/python" -c 'import importlib.metadata as m; m.version("keras"); m.version("safetensors")' 2>/dev/null; then
  "$python" -m venv "$keras"
  "$keras/bin/python" -m pip install --quiet --disable-pip-version-check tensorflow-cpu keras numpy safetensors
fi
data=${DLOPT_DATA:-$root/data}
"$here/fetch-data.sh" fashion-mnist series "$data" >/dev/null

if [ -z "${DLOPT:-}" ]; then
  (cd "$root" && cargo build --release --locked --quiet)
  DLOPT="$root/target/release/dlopt"
fi
# A few thousand pictures are enough to move every weight.
"$torch/bin/python" -B "$root/benches/training/fashion.py" "$data/fashion-mnist" "$work/pictures" 2560
"$DLOPT" prepare "$work/pictures/idx" -o "$work/fashion.safetensors" --force --quiet
"$DLOPT" prepare --train "$data/series/JapaneseVowels_TRAIN.ts" --test "$data/series/JapaneseVowels_TEST.ts" \
  -o "$work/vowels.safetensors" --force --quiet

echo '| network, data | way | samples | largest logit | largest difference | same class | within 1e-4 of the largest |'
echo '|---|---|---|---|---|---|---|'
failed=0
for side in torch keras; do
  # No GPU: what is checked is the weights.
  CUDA_VISIBLE_DEVICES='' PYTHONWARNINGS=ignore "${!side}/bin/python" -B "$here/check_weights.py" "$side" "$DLOPT" "$work" \
    "$work/fashion.safetensors" "$work/vowels.safetensors" || failed=1
done
exit "$failed"

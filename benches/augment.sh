#!/usr/bin/env bash
# Measures augmentation beside torchvision v2, albumentations and kornia, and what it costs a training, in interleaved runs.
#
#   benches/augment.sh WORK [--rounds 5] [--workers 2]
#
# WORK, outside the repository, takes a Python environment (PyTorch for the CPU and the three, 2 GB) and the pictures.
# Prints Markdown. DLOPT names another binary to measure, DLOPT_TORCH_VENV another environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
torch=${DLOPT_TORCH_VENV:-$work/venv-torch}
python3 -B "$here/../scripts/torch_venv.py" "$torch" torchvision albumentations kornia numpy >/dev/null
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
"$here/../scripts/fetch-data.sh" photos "$work/data" >/dev/null
"$here/../scripts/fetch-data.sh" fashion-mnist "$work/data" >/dev/null
exec "$torch/bin/python" -B "$here/augment/compare.py" "$work" "$DLOPT" "$torch/bin/python" "$@"

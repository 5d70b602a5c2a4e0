#!/usr/bin/env bash
# Measures 10,000 JPEG files of 256x256 to a dataset of 64x64: `dlopt prepare` and torchvision's loader, in interleaved runs.
#
#   benches/pictures.sh WORK [--rounds 5] [--workers 2] [--count 10000]
#
# WORK, outside the repository, takes a Python environment (PyTorch for the CPU and torchvision, 1.5 GB) and the pictures.
# Prints Markdown. DLOPT names another binary to measure, DLOPT_TORCH_VENV another environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
torch=${DLOPT_TORCH_VENV:-$work/venv-torch}
python3 -B "$here/../scripts/torch_venv.py" "$torch" torchvision numpy >/dev/null
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
"$here/../scripts/fetch-data.sh" photos "$work/data" >/dev/null
exec "$torch/bin/python" -B "$here/pictures/compare.py" "$work" "$DLOPT" "$torch/bin/python" "$@"

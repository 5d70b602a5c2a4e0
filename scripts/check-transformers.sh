#!/usr/bin/env bash
# Loads what dlopt writes in transformers, and compares it with what dlopt itself reads from it.
#
#   scripts/check-transformers.sh [WORK]
#
# Makes a Python environment with torch (CPU only), transformers and compressed-tensors, in .venv or where DLOPT_VENV
# says, and fetches MiniLM into data/: 2 GB and some minutes the first time. WORK (default: a temporary folder, deleted
# afterwards) takes the models that are written, 1 GB. DLOPT names another binary to check. Prints a Markdown table;
# the exit code is 1 if something does not hold.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)

case ${1:-} in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit ;; esac
if [ $# -gt 0 ]; then
  work=$1
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi

# Whichever Python is new enough and can make environments.
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10 none; do
  [ "$python" != none ] || { echo "error: no Python 3.10 or newer with the module \`venv\`" >&2; exit 1; }
  "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break
done
venv=${DLOPT_VENV:-$root/.venv}
"$python" -B "$here/torch_venv.py" "$venv" transformers compressed-tensors
"$here/fetch-data.sh" minilm similarity "$root/data" >/dev/null

if [ -z "${DLOPT:-}" ]; then
  (cd "$root" && cargo build --release --locked --quiet)
  DLOPT="$root/target/release/dlopt"
fi
# No GPU and no network: what is checked is the files.
CUDA_VISIBLE_DEVICES='' HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore \
  "$venv/bin/python" -B "$here/check_transformers.py" "$DLOPT" "$root/data" "$work"

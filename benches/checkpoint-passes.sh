#!/usr/bin/env bash
# Measures dlopt's passes over checkpoints against copying the same file, in interleaved runs.
#
#   benches/checkpoint-passes.sh [WORK] [--rounds 5] [--only passes,large,start,mse]
#
# WORK (default: a temporary folder, deleted afterwards) needs 8 GB of room; the 16 GB input, a file of holes, needs
# 40 GB for what comes out of it and is left out, with a line, where there is less. A given WORK keeps the 1.1 GB input
# and the models that were fetched. Prints Markdown on standard output. DLOPT names another binary to measure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

work='' options=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit ;;
    --*) options+=("$1" "${2:?$1 needs a value}"); shift ;;
    *) work=$1 ;;
  esac
  shift
done
if [ -z "$work" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)

if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
DLOPT=$(cd "$(dirname "$DLOPT")" && pwd)/$(basename "$DLOPT")

# The input wants numpy, once.
if [ ! -f "$work/llama/config.json" ]; then
  python=python3
  if ! python3 -c 'import numpy' 2>/dev/null; then
    [ -x "$work/numpy/bin/python" ] || { python3 -m venv "$work/numpy" && "$work/numpy/bin/pip" install --quiet numpy; }
    python="$work/numpy/bin/python"
  fi
  "$python" "$here/make_llama.py" "$work/llama.part" >&2
  mv "$work/llama.part" "$work/llama"
fi
"$here/../scripts/fetch-data.sh" minilm "$work/data" >/dev/null || echo "no minilm: that part is left out" >&2

python3 -B "$here/checkpoint_passes.py" "$DLOPT" "$work" ${options[@]+"${options[@]}"}

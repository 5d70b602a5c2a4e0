#!/usr/bin/env bash
# Measures dlopt against what people use in Python for the same job on the same folder, in interleaved runs.
#
#   benches/peers.sh WORK [--rounds 3] [--only quantize,prune]
#
# WORK, outside the repository, takes a Python environment with llm-compressor and torch (3 GB; minutes the first
# time), the 1.1 GB input and the outputs: 8 GB in all. A whole process is measured (start, imports, load, work, save)
# and, from within it, the time that the peer itself spends on load, work and save. Prints Markdown on standard
# output. DLOPT names another binary to measure, PEERS_VENV another environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift

# Versions of the day; the environment is made once and the versions are printed with the figures.
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10 none; do
  [ "$python" != none ] || { echo "error: no Python 3.10 or newer with the module \`venv\`" >&2; exit 1; }
  "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break
done
venv=${PEERS_VENV:-$work/venv-peers}
"$python" -B "$here/../scripts/torch_venv.py" "$venv" llmcompressor

if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
if [ ! -f "$work/llama/config.json" ]; then
  "$venv/bin/python" "$here/make_llama.py" "$work/llama.part" >&2
  mv "$work/llama.part" "$work/llama"
fi
"$venv/bin/python" -B "$here/peers/compare.py" "$DLOPT" "$work" "$@"

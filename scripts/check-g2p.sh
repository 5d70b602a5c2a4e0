#!/usr/bin/env bash
# Evaluates a letters-to-phonemes network that others trained, whole and compressed, on every 60th word of the CMU
# dictionary, and compares with what PyTorch gives.
#
#   bash scripts/check-g2p.sh
#
# Fetches the network (3 MB) and the dictionary (4 MB) into data/ when they are not there; skips when that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
for name in g2p cmudict; do
  if [ ! -d "data/$name" ] && ! bash scripts/fetch-data.sh "$name" data; then
    echo "skipped: $name cannot be fetched"
    exit 0
  fi
done
cargo test -p dlopt --test g2p -- --nocapture

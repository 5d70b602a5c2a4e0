#!/usr/bin/env bash
# Runs a speech detector that others trained, whole and compressed, on recorded speech, and compares its probabilities with
# those of a separate implementation in numpy.
#
#   bash scripts/check-silero.sh
#
# Fetches the sound (18 MB down, 1 MB kept) into data/ when it is not there; skips when that fails. The network is
# fixtures/silero/silero_vad_16k.safetensors.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -d data/speech ] && ! bash scripts/fetch-data.sh speech data; then
  echo "skipped: speech cannot be fetched"
  exit 0
fi
cargo test -p dlopt --test silero -- --nocapture

#!/usr/bin/env bash
# Schemes chosen under a budget against uniform int4 and int3 at equal bytes: the seed CNN on Fashion-MNIST (accuracy), a
# letters-to-phonemes network (words right, phoneme error rate) and a speech detector (decisions kept).
#
#   bash benches/budgets.sh WORK
#
# WORK, outside the repository, takes datasets, networks and figures. DLOPT names another binary. Fetches what it needs and
# skips when that fails. Needs Python. Choices are made on validation pictures, and on words that are no test words.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi

for name in fashion-mnist g2p cmudict speech; do
  bash "$here/../scripts/fetch-data.sh" "$name" "$work/data" >/dev/null || { echo "skipped: $name cannot be fetched"; exit 0; }
done
have() { [ -e "$work/$1.safetensors" ]; }
have fashion || "$DLOPT" prepare "$work/data/fashion-mnist" --split validation=0.1 --seed 1 -o "$work/fashion.safetensors" --quiet
have cnn || "$DLOPT" train --model cnn --data "$work/fashion.safetensors" --epochs 4 --schedule cosine --seed 1 --quiet \
  -o "$work/cnn.safetensors"

DLOPT="$DLOPT" WORK="$work" SILERO="$here/../fixtures/silero/silero_vad_16k.safetensors" \
  exec python3 -B "$here/budgets/measure.py"

#!/usr/bin/env bash
# Networks as they are stored: samples a second of the seed CNN and of an LSTM, dense, pruned and quantized, each on its own
# kernels and on those of f32, at three sizes of a batch; and what they take in memory.
#
#   bash benches/running.sh WORK [ROUNDS]
#
# WORK, outside the repository, takes datasets, networks and reports. DLOPT names another binary, THREADS a number of threads.
# Fetches what it needs and skips when that fails. Every round runs all contenders one after the other; the best of each counts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
rounds=${2:-5}
threads=${THREADS:-$(nproc)}
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi

fetched() {
  bash "$here/../scripts/fetch-data.sh" "$1" "$work/data" >/dev/null || { echo "skipped: $1 cannot be fetched"; exit 0; }
}
have() { [ -e "$work/$1.safetensors" ]; }

if ! have fashion; then
  fetched fashion-mnist
  "$DLOPT" prepare "$work/data/fashion-mnist" --split validation=0.1 --seed 1 -o "$work/fashion.safetensors" --quiet
fi
if ! have vowels; then
  fetched series
  "$DLOPT" prepare --train "$work/data/series/JapaneseVowels_TRAIN.ts" --test "$work/data/series/JapaneseVowels_TEST.ts" \
    -o "$work/vowels.safetensors" --quiet
fi
have cnn || "$DLOPT" train --model cnn --data "$work/fashion.safetensors" --epochs 4 --schedule cosine --seed 1 --quiet \
  -o "$work/cnn.safetensors"
have lstm || "$DLOPT" train --model lstm --data "$work/vowels.safetensors" --epochs 20 --batch 16 --schedule cosine --seed 1 --quiet \
  -o "$work/lstm.safetensors"
for network in cnn lstm; do
  data=$work/fashion.safetensors
  [ $network = cnn ] || data=$work/vowels.safetensors
  # Trained on for an epoch, its zeros kept, so that the figures are those of networks that people would run.
  have $network-pruned || {
    "$DLOPT" prune "$work/$network.safetensors" --sparsity 0.9 --scope global -o "$work/$network-cut.safetensors" --force --quiet
    "$DLOPT" train --init "$work/$network-cut.safetensors" --data "$data" --epochs 1 --lr 1e-3 --seed 1 --quiet \
      -o "$work/$network-pruned.safetensors"
  }
  # Zeros where the time goes: with one threshold for all, dense layers get most of them.
  epochs=6; [ $network = cnn ] || epochs=30
  have $network-evenly || "$DLOPT" train --model $network --data "$data" --epochs $epochs --schedule cosine --prune '0.9 tensor' \
    --seed 1 --quiet -o "$work/$network-evenly.safetensors"
  have $network-evenly8 || "$DLOPT" quantize "$work/$network-evenly.safetensors" --scheme w8a16 --group channel --quiet \
    -o "$work/$network-evenly8.safetensors"
  have $network-int8 || "$DLOPT" quantize "$work/$network.safetensors" --scheme w8a8 -o "$work/$network-int8.safetensors" --quiet
  have $network-int4 || "$DLOPT" quantize "$work/$network.safetensors" --scheme w4a16 --group 32 --fallback channel \
    -o "$work/$network-int4.safetensors" --quiet
  have $network-both || "$DLOPT" quantize "$work/$network-pruned.safetensors" --scheme w8a8 -o "$work/$network-both.safetensors" --quiet
done

DLOPT="$DLOPT" THREADS="$threads" ROUNDS="$rounds" WORK="$work" exec python3 -B "$here/running/measure.py"

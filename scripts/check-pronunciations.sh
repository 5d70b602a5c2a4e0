#!/usr/bin/env bash
# Letters to phonemes, from the CMU dictionary to a compressed model: trains an encoder and decoder with attention, evaluates
# it on words held out with all their variants, beside a simple baseline, compresses it, and says some words.
#
#   bash scripts/check-pronunciations.sh WORKDIR [EPOCHS]
#
# Fetches the dictionary (4 MB) into data/ when it is not there; skips when that fails. Five epochs take a quarter of an hour
# on two cores. DLOPT names another binary than target/release/dlopt.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:?usage: check-pronunciations.sh WORKDIR [EPOCHS]}
epochs=${2:-5}
dlopt=${DLOPT:-target/release/dlopt}
if [ ! -d data/cmudict ] && ! bash scripts/fetch-data.sh cmudict data; then
  echo "skipped: cmudict cannot be fetched"
  exit 0
fi
[ -x "$dlopt" ] || cargo build --release --locked --quiet
mkdir -p "$work"
python3 scripts/pronunciations.py data/cmudict/cmudict.dict "$work"
run() {
  echo "\$ dlopt $*" >&2
  "$dlopt" "$@"
}
run prepare --train "$work/train.dict" --test "$work/test.dict" --force --quiet -o "$work/cmudict.safetensors"
# The test words are only watched: the weights of the last epoch are kept.
run train --model seq2seq --data "$work/cmudict.safetensors" --epochs "$epochs" --batch 64 --learning-rate 0.002 \
  --schedule cosine --warmup 200 --clip-norm 1 --seed 1 --validation test --force -o "$work/pronounce.safetensors"
run eval "$work/pronounce.safetensors" --data "$work/cmudict.safetensors"
run eval "$work/pronounce.safetensors" --data "$work/cmudict.safetensors" --beam 4 --length-penalty 1
run prune "$work/pronounce.safetensors" --sparsity 0.3 --quiet |
  run quantize --scheme w8a16 --force --quiet -o "$work/small.safetensors"
run eval "$work/small.safetensors" --data "$work/cmudict.safetensors"
stat -c '%n: %s bytes' "$work/pronounce.safetensors" "$work/small.safetensors"
run predict "$work/small.safetensors" compression checkpoint

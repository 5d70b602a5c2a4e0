#!/usr/bin/env bash
# Classes of texts, from raw data to figures: spam by words and 18 languages by bytes, each by a network and by a linear
# model on features, beside naive Bayes on the same split.
#
#   bash scripts/check-texts.sh WORKDIR
#
# Fetches the texts (22 MB) into data/ when they are not there; skips when that fails. Takes about ten minutes on two cores.
# DLOPT names another binary than target/release/dlopt.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:?usage: check-texts.sh WORKDIR}
dlopt=${DLOPT:-target/release/dlopt}
for name in spam udhr; do
  if [ ! -d "data/$name" ] && ! bash scripts/fetch-data.sh "$name" data; then
    echo "skipped: $name cannot be fetched"
    exit 0
  fi
done
[ -x "$dlopt" ] || cargo build --release --locked --quiet
mkdir -p "$work"
python3 scripts/texts.py data "$work"
run() {
  echo "\$ dlopt $*" >&2
  "$dlopt" "$@"
}
# NAME DATA MODEL OPTIONS…: trains and prints the accuracy on the test split.
train() {
  run train --model "$3" --data "$work/$2.safetensors" --seed 1 --force --quiet -o "$work/$1.safetensors" "${@:4}"
  run eval "$work/$1.safetensors" --data "$work/$2.safetensors" | grep -E 'parameters|^accuracy' | sed "s/^/$1: /"
}
spam=(--train "$work/spam-train.jsonl" --test "$work/spam-test.jsonl" --force --quiet)
run prepare "${spam[@]}" --step tokenise=words,limit=20000,length=400,lowercase=true -o "$work/spam.safetensors"
run prepare "${spam[@]}" --features tf-idf -o "$work/spam-terms.safetensors"
train spam-linear spam-terms linear
train spam-textcnn spam textcnn --epochs 4 --learning-rate 0.002 --schedule cosine

udhr=(--train "$work/udhr-train.tsv" --test "$work/udhr-test.tsv" --text 2 --label 1 --force --quiet)
run prepare "${udhr[@]}" --step tokenise=bytes,length=256,lowercase=true -o "$work/udhr.safetensors"
run prepare "${udhr[@]}" --features char-ngrams -o "$work/udhr-grams.safetensors"
train udhr-linear udhr-grams linear
train udhr-textcnn udhr textcnn --epochs 20 --learning-rate 0.003 --schedule cosine

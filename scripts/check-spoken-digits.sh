#!/usr/bin/env bash
# Spoken digits from raw sounds to a compressed model: makes them with a speech synthesiser, prepares spectra, MFCCs and
# features, trains three networks, compresses the best, and fails when it hears fewer than 97 of 100 digits of voices that
# it was not trained on. Settings were chosen on the validation voices.
#
#   bash scripts/check-spoken-digits.sh WORKDIR
#
# Needs espeak-ng (`apt-get install espeak-ng`), which it skips without, and 200 MB. DLOPT names another binary than
# target/release/dlopt.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:?usage: check-spoken-digits.sh WORKDIR}
dlopt=${DLOPT:-target/release/dlopt}
if ! command -v espeak-ng >/dev/null; then
  echo "skipped: espeak-ng is not there"
  exit 0
fi
[ -x "$dlopt" ] || cargo build --release --locked --quiet
mkdir -p "$work"
[ -d "$work/digits" ] || python3 scripts/spoken-digits.py "$work/digits"
run() {
  echo "\$ dlopt $*" >&2
  "$dlopt" "$@"
}
# Ten voices for the test, ten to choose settings by, 28 to train on.
split=(--group '^([^_]+)_' --split test=0.2,validation=0.2 --seed 1 --force --quiet)
sound=(--step resample=16000 --step duration=0.8)

run prepare "$work/digits" "${sound[@]}" --step log-mel=40,frame=512,hop=256 --step picture "${split[@]}" -o "$work/mel.safetensors"
run prepare "$work/digits" "${sound[@]}" --step mfcc=13,frame=512,hop=256 "${split[@]}" -o "$work/mfcc.safetensors"
run prepare "$work/digits" "${sound[@]}" --features mfcc "${split[@]}" -o "$work/features.safetensors"

accuracy() {
  run eval "$1" --data "$2" --split "$3" --json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["model"]["metrics"]["classification"]["accuracy"]["value"])'
}
train() {
  run train --model "$1" --data "$work/$2.safetensors" --keep-best --seed 1 --force --quiet -o "$work/$1.safetensors" "${@:3}"
  echo "$1 on $2: validation $(accuracy "$work/$1.safetensors" "$work/$2.safetensors" validation)," \
    "test $(accuracy "$work/$1.safetensors" "$work/$2.safetensors" test)"
}
train linear features --epochs 30
train bigru mfcc --epochs 30 --schedule cosine --learning-rate 0.002
train cnn mel --epochs 8

run prune "$work/cnn.safetensors" --sparsity 0.7 --scope global --force --quiet -o "$work/pruned.safetensors"
run quantize "$work/pruned.safetensors" --scheme w4a16 --force --quiet -o "$work/small.safetensors"
heard=$(accuracy "$work/small.safetensors" "$work/mel.safetensors" test)
echo "cnn, pruned and quantized: test $heard, $(stat -c %s "$work/small.safetensors") bytes of" \
  "$(stat -c %s "$work/cnn.safetensors")"
python3 -c "import sys; sys.exit($heard < 0.97)" || { echo "error: fewer than 97 of 100 digits were heard" >&2; exit 1; }

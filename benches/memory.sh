#!/usr/bin/env bash
# What running a large network takes in memory: peak resident bytes beside those of its file, dense and int4, on each choice of
# kernels.
#
#   bash benches/memory.sh WORK
#
# WORK, outside the repository, takes the networks: a gigabyte of weights as f32 each, trained for one step, for what counts is
# their size. DLOPT names another binary, THREADS a number of threads. Needs eight gigabytes of memory to make them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
threads=${THREADS:-$(nproc)}
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
have() { [ -e "$work/$1" ]; }

if ! have rows.safetensors; then
  # Twenty columns and three classes, of no meaning.
  for row in $(seq 60); do
    for column in $(seq 20); do printf '%s,' $(((row * 7 + column * column) % 11)); done
    printf 'class%s\n' $((row % 3))
  done >"$work/rows.csv"
  cut -d, -f1-20 "$work/rows.csv" >"$work/unlabelled.csv"
  "$DLOPT" prepare "$work/rows.csv" --split-at 1,20 --constant keep -q --force -o "$work/rows.safetensors"
fi
if ! have text.safetensors; then
  for _ in $(seq 60); do echo 'It is a truth universally acknowledged that a text is read on.'; done >"$work/text.txt"
  "$DLOPT" prepare "$work/text.txt" --window 4 --split-at 1,20 -q --force -o "$work/text.safetensors"
fi
if ! have mlp.safetensors; then
  cat >"$work/mlp.toml" <<'TOML'
layers = [
    { type = "dense", units = 8192, activation = "relu" },
    { type = "dense", units = 8192, activation = "relu" },
    { type = "dense", units = 8192, activation = "relu" },
    { type = "dense", units = 8192, activation = "relu" },
    { type = "dense", units = 8192, activation = "relu" },
    { type = "dense", units = "classes" },
]
TOML
  "$DLOPT" train --model "$work/mlp.toml" --data "$work/rows.safetensors" --epochs 1 --batch 1 --optimizer sgd -q --force -o "$work/mlp.safetensors"
fi
if ! have lstm.safetensors; then
  cat >"$work/lstm.toml" <<'TOML'
layers = [
    { type = "embedding", size = 512 },
    { type = "lstm", hidden = 4096, return_sequences = true },
    { type = "lstm", hidden = 4096, return_sequences = true },
    { type = "dense", units = "classes" },
]
TOML
  "$DLOPT" train --model "$work/lstm.toml" --data "$work/text.safetensors" --epochs 1 --batch 1 --optimizer sgd -q --force -o "$work/lstm.safetensors"
fi
for network in mlp lstm; do
  have $network-int4.safetensors || "$DLOPT" quantize "$work/$network.safetensors" --scheme w4a16 --group 128 --fallback channel \
    -q --force -o "$work/$network-int4.safetensors"
done

DLOPT="$DLOPT" THREADS="$threads" WORK="$work" exec python3 -B "$here/running/memory.py"

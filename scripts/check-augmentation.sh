#!/usr/bin/env bash
# What augmentation buys: the preset `cnn` on Fashion-MNIST and on 200 digits, trained with and without, and measured on
# the test pictures as they are and under corruption. Prints means and spreads; about 20 minutes on two cores.
#
#   bash scripts/check-augmentation.sh WORK
#
# WORK, outside the repository, takes the datasets, networks and reports. DLOPT names another binary. Fetches Fashion-MNIST
# (30 MB) and skips when that fails. Recipes were chosen on a tenth of the training pictures, never on the test pictures.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
if ! bash "$here/fetch-data.sh" fashion-mnist "$work/data" >/dev/null; then
  echo "skipped: Fashion-MNIST cannot be fetched"
  exit 0
fi
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
fashion=$work/fashion.safetensors digits=$work/digits.safetensors
"$DLOPT" prepare "$work/data/fashion-mnist" -o "$fashion" --force --quiet
"$DLOPT" prepare "$here/../fixtures/digits/digits.csv.gz" --shape 8x8 --resize 28x28 --split test=0.8887 -o "$digits" --force --quiet

# Trains three networks and measures them: name, recipe.
fashion() {
  local name=$1 seed
  shift
  for seed in 1 2 3; do
    "$DLOPT" train --data "$fashion" --model cnn --epochs 20 --schedule cosine --seed "$seed" --quiet --force "$@" \
      -o "$work/fashion-$name-$seed.safetensors"
    "$DLOPT" eval "$work/fashion-$name-$seed.safetensors" --data "$fashion" --corrupt --json >"$work/fashion-$name-$seed.json"
  done
}
# The same of 200 digits, five networks, and no corruption.
digits() {
  local name=$1 seed
  shift
  for seed in 1 2 3 4 5; do
    "$DLOPT" train --data "$digits" --model cnn --epochs 150 --batch 16 --schedule cosine --seed "$seed" --quiet --force "$@" \
      -o "$work/digits-$name-$seed.safetensors"
    "$DLOPT" eval "$work/digits-$name-$seed.safetensors" --data "$digits" --json >"$work/digits-$name-$seed.json"
  done
}

fashion plain
fashion turned --augment-op rotate=±30,p=0.5 --augment-op scale=0.67..1.5,p=0.5 --augment-op noise=0..0.1,p=0.5
fashion turned-pale --augment-op rotate=±30,p=0.35 --augment-op scale=0.67..1.5,p=0.35 \
  --augment-op contrast=0.15..1,p=0.35 --augment-op noise=0..0.1,p=0.35
fashion moved --augment-op horizontal-flip --augment-op crop=1
fashion mixed --augment-op horizontal-flip --augment-op mixup=0.2
digits plain
digits moved --augment-op rotate=±15 --augment-op scale=0.85..1.15 --augment-op translate=±0.08
"$DLOPT" eval "$work/fashion-turned-pale-1.safetensors" --against "$work/fashion-plain-1.safetensors" --data "$fashion" \
  --corrupt --plot "$work/robustness.svg" --quiet >/dev/null
python3 -B "$here/augmentation.py" "$work"
echo "the plot of the first seeds is $work/robustness.svg"

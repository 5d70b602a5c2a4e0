#!/usr/bin/env bash
# Deep compression (Han, Mao and Dally, 2015) of LeNet-300-100 and LeNet-5 on Fashion-MNIST: dense, pruned while training,
# values shared, values trained, packed; accuracy and bytes at each stage.
#
#   bash scripts/check-deep-compression.sh WORK
#
# WORK, outside the repository, takes the dataset, networks and reports. DLOPT names another binary, SEEDS others than 1 2 3,
# NETWORKS others than lenet300 lenet5.
# Fetches what it needs and skips when that fails. Settings were chosen on a tenth of the training pictures, with seed 1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
fashion=$work/fashion.safetensors
if [ ! -e "$fashion" ]; then
  bash "$here/fetch-data.sh" fashion-mnist "$work/data" >/dev/null || { echo "skipped: fashion-mnist cannot be fetched"; exit 0; }
  "$DLOPT" prepare "$work/data/fashion-mnist" --split validation=0.1 --seed 1 -o "$fashion" --quiet
fi

# step OUT FLAG...: trains unless it is there.
step() {
  local out=$1
  shift
  [ -e "$out" ] || "$DLOPT" train --data "$fashion" --schedule cosine --quiet "$@" -o "$out"
}

# compress NETWORK SEED SPARSITY SCHEME: all stages; the dense network is trained for as many epochs as the others together.
compress() {
  local name=$work/$1-$2 model=$1 seed=$2 sparsity=$3 scheme=$4
  step "$name-dense.safetensors" --model "$model" --epochs 24 --learning-rate 0.002 --seed "$seed"
  step "$name-pruned.safetensors" --model "$model" --prune "$sparsity cubic 0..8" --epochs 20 --learning-rate 0.002 --seed "$seed"
  [ -e "$name-shared.safetensors" ] ||
    "$DLOPT" quantize "$name-pruned.safetensors" --scheme "$scheme" --quiet -o "$name-shared.safetensors"
  step "$name-trained.safetensors" --init "$name-pruned.safetensors" --share-weights "$scheme" --epochs 4 \
    --learning-rate 0.0005 --seed "$seed"
  # Biases and tables of values in 16 bits.
  "$DLOPT" convert "$name-trained.safetensors" --dtype f16 --quiet --force -o "$name-half.safetensors"
  "$DLOPT" pack "$name-half.safetensors" --quiet --force -o "$name-packed.dlpk"
  for stage in dense pruned shared trained half; do
    "$DLOPT" eval "$name-$stage.safetensors" --data "$fashion" --split "$split" --json >"$name-$stage.json"
  done
  "$DLOPT" eval "$name-packed.dlpk" --data "$fashion" --split "$split" --json >"$name-packed.json"
}

networks=${NETWORKS:-lenet300 lenet5}
split=${SPLIT:-test}
for seed in ${SEEDS:-1 2 3}; do
  for network in $networks; do
    compress "$network" "$seed" 0.92 codebook4
  done
done

python3 -B - "$work" "$networks" "$split" ${SEEDS:-1 2 3} <<'PYTHON'
import json, os, statistics, sys

work, networks, split, seeds = sys.argv[1], sys.argv[2].split(), sys.argv[3], sys.argv[4:]
PARAMETERS = {"lenet300": 266_610, "lenet5": 61_706}
STAGES = {"dense": "dense, f32", "pruned": "pruned while training", "shared": "values shared", "trained": "values trained",
          "half": "biases and values in 16 bits", "packed": "packed"}

def accuracy(network, stage, seed):
    report = json.load(open(f"{work}/{network}-{seed}-{stage}.json"))
    return 100 * report["model"]["metrics"]["classification"]["accuracy"]["value"]

def size(network, stage, seed):
    ending = "dlpk" if stage == "packed" else "safetensors"
    return os.path.getsize(f"{work}/{network}-{seed}-{stage}.{ending}")

print(f"accuracy on {split}, mean of {len(seeds)} seeds; points lost to the dense network of the same seed (all of them); bytes of the file\n")
for network in networks:
    print(f"| {network} | accuracy | points lost | bytes | smaller than f32 |\n|---|---|---|---|---|")
    dense = [accuracy(network, "dense", seed) for seed in seeds]
    for stage, name in STAGES.items():
        own = [accuracy(network, stage, seed) for seed in seeds]
        lost = [a - b for a, b in zip(dense, own)]
        each = ", ".join(f"{value:.2f}" for value in lost)
        sizes = statistics.mean(size(network, stage, seed) for seed in seeds)
        # Parameters alone on one side, every byte of the file on the other.
        print(f"| {name} | {statistics.mean(own):.2f} % | {statistics.mean(lost):.2f} ({each}) | {sizes:,.0f} | {4 * PARAMETERS[network] / sizes:.1f}x |")
    print()
PYTHON

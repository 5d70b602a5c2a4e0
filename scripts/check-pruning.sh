#!/usr/bin/env bash
# What pruning while training costs: the seed CNN on Fashion-MNIST, dense and at three sparsities, over the same epochs.
#
#   bash scripts/check-pruning.sh WORK
#
# WORK, outside the repository, takes the dataset, networks and reports. DLOPT names another binary, SEEDS others than 1 2 3.
# Fetches what it needs and skips when that fails. Two schedules: the usual one, and one chosen on a tenth of the training
# pictures, at 98 % and with seed 1, among six.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
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

for seed in ${SEEDS:-1 2 3}; do
  for rate in 0.001 0.002; do
    for sparsity in 0 0.9 0.95 0.98; do
      network=$work/pruned-$rate-$sparsity-$seed
      schedule=(--prune "$sparsity")
      [ $rate = 0.001 ] || schedule=(--prune "$sparsity,0..3")
      [ $sparsity != 0 ] || schedule=()
      [ -e "$network.safetensors" ] || "$DLOPT" train --model cnn --data "$fashion" --epochs 12 --schedule cosine \
        --learning-rate $rate --seed "$seed" "${schedule[@]}" --quiet -o "$network.safetensors"
      "$DLOPT" eval "$network.safetensors" --data "$fashion" --json >"$network.json"
    done
  done
done

python3 -B - "$work" ${SEEDS:-1 2 3} <<'PYTHON'
import json, statistics, sys

work, seeds = sys.argv[1], sys.argv[2:]

def accuracy(rate, sparsity, seed):
    report = json.load(open(f"{work}/pruned-{rate}-{sparsity}-{seed}.json"))
    return 100 * report["model"]["metrics"]["classification"]["accuracy"]["value"]

print(f"accuracy on test after 12 epochs, mean of {len(seeds)} seeds; points lost to the dense network of the same seed (all of them)\n")
print("| schedule | sparsity | accuracy | points lost |\n|---|---|---|---|")
for rate, schedule in (("0.001", "three quarters of the epochs"), ("0.002", "three epochs")):
    dense = [accuracy(rate, "0", seed) for seed in seeds]
    for sparsity in ("0", "0.9", "0.95", "0.98"):
        own = [accuracy(rate, sparsity, seed) for seed in seeds]
        lost = [a - b for a, b in zip(dense, own)]
        each = ", ".join(f"{value:.2f}" for value in lost)
        mean = statistics.mean
        print(f"| {schedule} | {100 * float(sparsity):.0f} % | {mean(own):.2f} % | {mean(lost):.2f} ({each}) |")
PYTHON

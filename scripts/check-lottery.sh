#!/usr/bin/env bash
# Lottery tickets (Frankle and Carbin, 2019): LeNet-300-100 on Fashion-MNIST is pruned after training, and what stays is trained
# again: from the weights it had after an early epoch, and from fresh ones. The curve over sparsity.
#
#   bash scripts/check-lottery.sh WORK
#
# WORK, outside the repository, takes the dataset, networks and reports. DLOPT names another binary, SEEDS others than 1 2 3,
# EPOCHS other than 8, ROUNDS other than 15. Fetches what it needs and skips when that fails. Rounds take a fifth of what is left each time, as the paper does.
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
epochs=${EPOCHS:-8}
# Shares of zeros: 1 - 0.8^n for every third round.
rounds=${ROUNDS:-15}

for seed in ${SEEDS:-1 2 3}; do
  at=$work/lottery-$seed
  train=("$DLOPT" train --data "$fashion" --schedule constant --learning-rate 0.0012 --batch 60 --quiet)
  [ -e "$at-0.safetensors" ] || "${train[@]}" --model lenet300 --seed "$seed" --epochs "$epochs" \
    --checkpoints "$at-early" --keep-last "$epochs" -o "$at-0.safetensors"
  early=$at-early/epoch-0001.safetensors
  for round in $(seq "$rounds"); do
    sparsity=$(python3 -c "print(1 - 0.8 ** $round)")
    pruned=$at-$round-pruned.safetensors
    [ -e "$pruned" ] || "$DLOPT" prune "$at-$((round - 1)).safetensors" --sparsity "$sparsity" --quiet -o "$pruned"
    [ -e "$at-$round.safetensors" ] || "${train[@]}" --init "$early" --zeros-of "$pruned" --seed "$seed" \
      --epochs "$((epochs - 1))" -o "$at-$round.safetensors"
    [ $((round % 3)) = 0 ] || continue
    [ -e "$at-$round-fresh.safetensors" ] || "${train[@]}" --model lenet300 --zeros-of "$pruned" --seed "$((seed + 100))" \
      --epochs "$epochs" -o "$at-$round-fresh.safetensors"
  done
  for network in 0 $(seq 3 3 "$rounds"); do
    for kind in "" -fresh; do
      [ -e "$at-$network$kind.safetensors" ] || continue
      [ -e "$at-$network$kind.json" ] || "$DLOPT" eval "$at-$network$kind.safetensors" --data "$fashion" --json >"$at-$network$kind.json"
    done
  done
done

python3 -B - "$work" "$rounds" ${SEEDS:-1 2 3} <<'PYTHON'
import json, statistics, sys

work, rounds, seeds = sys.argv[1], int(sys.argv[2]), sys.argv[3:]

def of(network):
    values = []
    for seed in seeds:
        report = json.load(open(f"{work}/lottery-{seed}-{network}.json"))
        values.append(100 * report["model"]["metrics"]["classification"]["accuracy"]["value"])
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f} %{spread}"

print(f"accuracy on test, mean and deviation of {len(seeds)} seeds\n")
print("| zeros | ticket: rewound to the first epoch | the same zeros, fresh weights |\n|---|---|---|")
print(f"| 0 % | {of(0)} | |")
for network in range(3, rounds + 1, 3):
    print(f"| {100 * (1 - 0.8 ** network):.1f} % | {of(network)} | {of(f'{network}-fresh')} |")
PYTHON

#!/usr/bin/env bash
# What pruning at one stroke costs, and what an epoch of training on with the zeros kept gives back: the seed CNN on
# Fashion-MNIST, by one threshold for all weights and by one a tensor.
#
#   bash scripts/check-one-shot.sh WORK
#
# WORK, outside the repository, takes the dataset, networks and reports. DLOPT names another binary, SEEDS others than 1 2 3.
# Fetches what it needs and skips when that fails. The settings are those that PyTorch was measured with: all 60,000 pictures,
# Adam at 0.001, batches of 128, five epochs and one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
data=$work/fashion-all.safetensors
if [ ! -e "$data" ]; then
  bash "$here/fetch-data.sh" fashion-mnist "$work/data" >/dev/null || { echo "skipped: fashion-mnist cannot be fetched"; exit 0; }
  # As the protocol beside it has them: between 0 and 1, and nothing else.
  "$DLOPT" prepare "$work/data/fashion-mnist" --standardise none -o "$data" --quiet
fi

train() { "$DLOPT" train --data "$data" --batch 128 --learning-rate 0.001 --quiet "$@"; }
for seed in ${SEEDS:-1 2 3}; do
  dense=$work/one-shot-$seed
  [ -e "$dense.safetensors" ] || train --model cnn --epochs 5 --seed "$seed" -o "$dense.safetensors"
  "$DLOPT" eval "$dense.safetensors" --data "$data" --json >"$dense.json"
  for scope in global tensor; do
    for sparsity in 0.5 0.8 0.9 0.95; do
      own=$work/one-shot-$seed-$scope-$sparsity
      "$DLOPT" prune "$dense.safetensors" --scope $scope --sparsity $sparsity --quiet --force -o "$own-cut.safetensors"
      [ -e "$own-tuned.safetensors" ] ||
        train --init "$own-cut.safetensors" --epochs 1 --seed "$seed" -o "$own-tuned.safetensors"
      for stage in cut tuned; do
        "$DLOPT" eval "$own-$stage.safetensors" --data "$data" --json >"$own-$stage.json"
      done
    done
  done
done

python3 -B - "$work" ${SEEDS:-1 2 3} <<'PYTHON'
import json, statistics, sys

work, seeds = sys.argv[1], sys.argv[2:]

def shown(tag):
    reports = [json.load(open(f"{work}/one-shot-{seed}{tag}.json")) for seed in seeds]
    own = [100 * report["model"]["metrics"]["classification"]["accuracy"]["value"] for report in reports]
    return f"{statistics.mean(own):.2f} % ({', '.join(f'{value:.2f}' for value in own)})"

print(f"accuracy on test, mean of {len(seeds)} seeds (all of them); dense: {shown('')}\n")
print("| sparsity | all weights, pruned | and an epoch | each tensor, pruned | and an epoch |\n|---|---|---|---|---|")
for sparsity in ("0.5", "0.8", "0.9", "0.95"):
    cells = [shown(f"-{scope}-{sparsity}-{stage}") for scope in ("global", "tensor") for stage in ("cut", "tuned")]
    print(f"| {100 * float(sparsity):.0f} % | {' | '.join(cells)} |")
PYTHON

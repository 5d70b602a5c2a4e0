#!/usr/bin/env bash
# Deep compression (Han, Mao and Dally, 2015): two LeNets on Fashion-MNIST are pruned while they train, share their weights,
# train the shared values, and are packed. Accuracy and bytes at every stage, beside the dense network of as many epochs.
#
#   bash scripts/check-deep-compression.sh WORK
#
# WORK, outside the repository, takes the dataset, networks and reports. DLOPT names another binary, SEEDS others than 1 2 3.
# Fetches what it needs and skips when that fails. Sparsity, bits and step sizes were chosen on a tenth of the training pictures.
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
split=${SPLIT:-test}

# Network, sparsity, bits of a shared value.
while read -r network sparsity bits; do
  for seed in ${SEEDS:-1 2 3}; do
    at=$work/$network-$seed
    train=("$DLOPT" train --data "$fashion" --seed "$seed" --schedule cosine --quiet)
    [ -e "$at-dense.safetensors" ] || "${train[@]}" --model "$network" --epochs 24 --learning-rate 0.001 \
      -o "$at-dense.safetensors"
    [ -e "$at-pruned-$sparsity.safetensors" ] || "${train[@]}" --model "$network" --epochs 20 --learning-rate 0.002 \
      --prune "$sparsity,0..8" -o "$at-pruned-$sparsity.safetensors"
    # Biases take 16 bits; weights share values, without more training and with it.
    shared=$at-shared-$sparsity-$bits
    [ -e "$shared.safetensors" ] || "$DLOPT" quantize "$at-pruned-$sparsity.safetensors" --scheme codebook --bits "$bits" \
      -o "$shared.safetensors" --quiet
    [ -e "$shared-tuned.safetensors" ] || "${train[@]}" --init "$at-pruned-$sparsity.safetensors" --share-weights "$bits" \
      --epochs 4 --learning-rate 0.0005 -o "$shared-tuned.safetensors"
    [ -e "$shared.dlpk" ] || "$DLOPT" convert "$shared-tuned.safetensors" --dtype f16 --include '*.bias' --quiet |
      "$DLOPT" pack -o "$shared.dlpk" --quiet
    for stage in "$at-dense.safetensors" "$at-pruned-$sparsity.safetensors" "$shared.safetensors" "$shared-tuned.safetensors" "$shared.dlpk"; do
      report=$stage.$split.json
      [ -e "$report" ] || "$DLOPT" eval "$stage" --data "$fashion" --split "$split" --json >"$report"
    done
  done
  python3 -B - "$work" "$network" "$sparsity" "$bits" "$split" ${SEEDS:-1 2 3} <<'PYTHON'
import json, os, statistics, sys

work, network, sparsity, bits, split = sys.argv[1:6]
seeds = sys.argv[6:]
stages = [
    ("dense, f32", "{seed}-dense.safetensors"),
    (f"pruned while training, {100 * float(sparsity):.0f} %", f"{{seed}}-pruned-{sparsity}.safetensors"),
    (f"{2 ** int(bits)} values a tensor", f"{{seed}}-shared-{sparsity}-{bits}.safetensors"),
    ("the values trained", f"{{seed}}-shared-{sparsity}-{bits}-tuned.safetensors"),
    ("packed", f"{{seed}}-shared-{sparsity}-{bits}.dlpk"),
]
print(f"\n{network}, {split}, mean of {len(seeds)} seeds\n")
print("| stage | bytes | smaller | accuracy | points lost (each seed) |\n|---|---|---|---|---|")
def of(pattern, seed):
    path = f"{work}/{network}-{pattern.format(seed=seed)}"
    value = json.load(open(f"{path}.{split}.json"))["model"]["metrics"]["classification"]["accuracy"]["value"]
    return os.path.getsize(path), 100 * value
dense = [of(stages[0][1], seed) for seed in seeds]
for name, pattern in stages:
    own = [of(pattern, seed) for seed in seeds]
    lost = [a[1] - b[1] for a, b in zip(dense, own)]
    size = statistics.mean(bytes for bytes, _ in own)
    ratio = statistics.mean(a[0] / b[0] for a, b in zip(dense, own))
    each = ", ".join(f"{value:.2f}" for value in lost)
    accuracy = statistics.mean(value for _, value in own)
    print(f"| {name} | {size:,.0f} | {ratio:.1f}x | {accuracy:.2f} % | {statistics.mean(lost):.2f} ({each}) |")
PYTHON
done <<EOT
${NETWORKS:-lenet300 0.92 4
lenet5 0.92 4}
EOT

#!/usr/bin/env bash
# Deep compression (Han, Mao and Dally, 2015) of LeNet-300-100 and LeNet-5 on Fashion-MNIST: the recipes of fixtures/fashion
# with several seeds; accuracy and bytes at each stage.
#
#   bash scripts/check-deep-compression.sh WORK
#
# WORK, outside the repository, takes the dataset, networks and reports. DLOPT names another binary, SEEDS others than 1 2 3,
# NETWORKS others than lenet300 lenet5, SPLIT another than test.
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
cd "$work"
if [ ! -e fashion.safetensors ]; then
  bash "$here/fetch-data.sh" fashion-mnist data >/dev/null || { echo "skipped: fashion-mnist cannot be fetched"; exit 0; }
  "$DLOPT" prepare data/fashion-mnist --split validation=0.1 --seed 1 -o fashion.safetensors --quiet
fi

networks=${NETWORKS:-lenet300 lenet5}
split=${SPLIT:-test}
for seed in ${SEEDS:-1 2 3}; do
  for network in $networks; do
    name=$network-$seed-$split
    [ ! -e "$name.json" ] || continue
    sed "s/^seed = .*/seed = $seed/; s/^data = .*/&\nsplit = \"$split\"/" \
      "$here/../fixtures/fashion/deep-compression-$network.toml" >"$name.toml"
    "$DLOPT" run "$name.toml" -o "$name.dlpk" --force --quiet --report "$name.json"
  done
done

python3 -B - "$networks" "$split" ${SEEDS:-1 2 3} <<'PYTHON'
import json, statistics, sys

networks, split, seeds = sys.argv[1].split(), sys.argv[2], sys.argv[3:]
PARAMETERS = {"lenet300": 266_610, "lenet5": 61_706}

print(f"accuracy on {split}, mean of {len(seeds)} seeds; points lost to the dense network of the same seed (all of them); bytes of the file\n")
for network in networks:
    runs = [json.load(open(f"{network}-{seed}-{split}.json"))["stages"] for seed in seeds]
    print(f"| {network} | accuracy | points lost | bytes | smaller than f32 |\n|---|---|---|---|---|")
    for at, stage in enumerate(runs[0]):
        own = [100 * run[at]["quality"]["value"] for run in runs]
        lost = [100 * run[0]["quality"]["value"] - value for run, value in zip(runs, own)]
        each = ", ".join(f"{value:.2f}" for value in lost)
        size = statistics.mean(run[at]["bytes"] for run in runs)
        # Parameters alone on one side, every byte of the file on the other.
        smaller = 4 * PARAMETERS[network] / size
        print(f"| {stage['name']} | {statistics.mean(own):.2f} % | {statistics.mean(lost):.2f} ({each}) | {size:,.0f} | {smaller:.1f}x |")
    print()
PYTHON

#!/usr/bin/env bash
# What whole channels and hidden units cost when they leave, and what they give, on real data: points and samples a second.
#
#   bash scripts/check-structure.sh WORK [ROW…]
#
# Rows: channels vectors hidden vowels criteria; all of them when none is named. WORK, outside the repository, takes the datasets and
# networks. DLOPT names another binary, SEEDS how many networks are trained of each kind (3). Fetches what it needs and skips
# when that fails. Accuracy is that of the test split; every network that is trained on is so for as long as its control.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(channels vectors hidden vowels criteria)
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
seeds=$(seq "${SEEDS:-3}")

fetched() {
  bash "$here/fetch-data.sh" "$1" "$work/data" >/dev/null || { echo "skipped: $1 cannot be fetched"; exit 0; }
}
fashion() {
  fashion=$work/fashion.safetensors
  [ -e "$fashion" ] && return
  fetched fashion-mnist
  "$DLOPT" prepare "$work/data/fashion-mnist" -o "$fashion" --quiet
}
# A network that is trained: name, options.
trained() {
  local name=$1
  shift
  [ -e "$work/$name.safetensors" ] || "$DLOPT" train "$@" --quiet -o "$work/$name.safetensors"
}
# Accuracy in percent, then samples a second (the best of so many runs: others only slow it down): name, data, runs.
figures() {
  "$DLOPT" eval "$work/$1.safetensors" --data "$2" --repeat "$3" --json | python3 -c '
import json, sys
report = json.load(sys.stdin)["model"]
print("%.2f %.0f" % (100 * report["metrics"]["classification"]["accuracy"]["value"], max(report["samples_per_second_of_runs"])))'
}
# Prunes, trains on, and compares with the whole network trained on for as long: label, model, data, runs of eval, options of
# the first training, of pruning, of training on.
compared() {
  local label=$1 model=$2 data=$3 runs=$4 first=$5 prune=$6 more=$7
  for seed in $seeds; do
    local name=$label-$seed
    # shellcheck disable=SC2086 # options are words
    trained "$name" --model "$model" --data "$data" --seed "$seed" $first
    # shellcheck disable=SC2086
    trained "$name-control" --init "$work/$name.safetensors" --data "$data" --seed "$seed" $more
    # shellcheck disable=SC2086
    "$DLOPT" prune "$work/$name.safetensors" $prune -o "$work/$name-cut.safetensors" --force --quiet
    rm -f "$work/$name-tuned.safetensors"
    # shellcheck disable=SC2086
    trained "$name-tuned" --init "$work/$name-cut.safetensors" --data "$data" --seed "$seed" $more
    # In turns, so that a machine that slows down slows all of them.
    local way
    for way in '' -control -cut -tuned; do
      echo "$label seed $seed ${way:--whole} $(figures "$name$way" "$data" "$runs")"
    done
  done | python3 -c '
import collections, statistics, sys
accuracy, rate = collections.defaultdict(list), collections.defaultdict(list)
for line in sys.stdin:
    print(line, end="")
    *_, way, points, speed = line.split()
    accuracy[way].append(float(points)), rate[way].append(float(speed))
for way in accuracy:
    lost = [a - b for a, b in zip(accuracy["-control"], accuracy[way])]
    faster = [a / b for a, b in zip(rate[way], rate["-whole"])]
    print(f"{way[1:]:8} {statistics.mean(accuracy[way]):.2f} %, {statistics.mean(lost):+.2f} points below the control "
          f"({min(lost):+.2f} to {max(lost):+.2f}), {statistics.median(rate[way]):.0f} samples/s, {statistics.median(faster):.2f} x")'
}

# Half of the multiply-adds, with widths that are multiples of $1.
half() {
  fashion
  compared cnn cnn "$fashion" 9 "--epochs 12 --schedule cosine" \
    "--pattern channels --sparsity 0.5 --target flops --round-to $1 --criterion taylor --data $fashion" \
    "--epochs 8 --schedule cosine --learning-rate 0.0007"
}
row_channels() {
  half 8
}
# Steps of 16 channels are coarse: what comes nearest to half is 40 %.
row_vectors() {
  half 16
}
row_hidden() {
  fashion
  compared lstm lstm "$fashion" 9 "--epochs 8 --schedule cosine" \
    "--pattern hidden --sparsity 0.5 --target width --criterion taylor --data $fashion" \
    "--epochs 6 --schedule cosine --learning-rate 0.0007"
}
row_vowels() {
  vowels=$work/vowels.safetensors
  if [ ! -e "$vowels" ]; then
    fetched series
    "$DLOPT" prepare --train "$work/data/series/JapaneseVowels_TRAIN.ts" --test "$work/data/series/JapaneseVowels_TEST.ts" \
      -o "$vowels" --quiet
  fi
  compared vowels lstm "$vowels" 99 "--epochs 60 --schedule cosine" \
    "--pattern hidden --sparsity 0.5 --target width --criterion taylor --data $vowels" \
    "--epochs 40 --schedule cosine --learning-rate 0.0007"
}
# Every criterion on one network, before anything is trained on.
row_criteria() {
  fashion
  trained cnn-1 --model cnn --data "$fashion" --seed 1 --epochs 12 --schedule cosine
  for scope in tensor global; do
    for criterion in l1 l2 geometric-median random taylor fisher mean-activation apoz; do
      local data=()
      case $criterion in taylor | fisher | mean-activation | apoz) data=(--data "$fashion") ;; esac
      "$DLOPT" prune "$work/cnn-1.safetensors" --pattern channels --sparsity 0.5 --target flops --scope "$scope" \
        --criterion "$criterion" "${data[@]}" -o "$work/by.safetensors" --force --quiet
      echo "$scope $criterion $(figures by "$fashion" 1)"
    done
  done
}

for row in "${rows[@]}"; do
  echo "== $row"
  "row_$row"
done

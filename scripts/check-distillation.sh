#!/usr/bin/env bash
# What distillation buys, on real data: teacher, students, and the same students without the teacher, side by side.
#
#   bash scripts/check-distillation.sh WORK [ROW…]
#
# Rows: seed resnet ensemble labels series sequence recovery omit cost; all of them when none is named. WORK, outside the repository, takes the
# datasets, networks and reports. DLOPT names another binary. Fetches what it needs and skips when that fails.
# Most settings were chosen on a tenth of the training pictures, or taken as they are; the README says which were not.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(seed resnet ensemble labels series sequence recovery omit cost)
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi

fetched() {
  bash "$here/fetch-data.sh" "$1" "$work/data" >/dev/null || { echo "skipped: $1 cannot be fetched"; exit 0; }
}
# Fashion-MNIST with a tenth of the training pictures to choose on.
fashion() {
  fashion=$work/fashion.safetensors
  [ -e "$fashion" ] && return
  fetched fashion-mnist
  "$DLOPT" prepare "$work/data/fashion-mnist" --split validation=0.1 --seed 1 -o "$fashion" --quiet
}
# A network that is trained once: name, options.
trained() {
  local name=$1
  shift
  [ -e "$work/$name.safetensors" ] || "$DLOPT" train "$@" --quiet -o "$work/$name.safetensors"
}
# A distillation: name, options. Prints the table.
distilled() {
  local name=$1
  shift
  echo "== $name"
  if ! "$DLOPT" distill "$@" --force -o "$work/$name.safetensors" --report "$work/$name.json" --plot "$work/$name.svg" \
    2>"$work/$name.log"; then
    cat "$work/$name.log" >&2
    exit 1
  fi
  sed -n '/ rows of the split/,$p' "$work/$name.log"
}
# The teacher of most rows: the seed network, 20 epochs.
seed_network() {
  fashion
  trained cnn-1 --data "$fashion" --model cnn --epochs 20 --schedule cosine --augment-op horizontal-flip --augment-op crop=1 --seed 1
}

row_seed() {
  seed_network
  distilled seed --teacher "$work/cnn-1.safetensors" --student width=0.25 --start fresh --data "$fashion" --control --seeds 3 \
    --loss kd=1,temperature=1 --epochs 15 --batch 64 --lr 0.004 --schedule cosine \
    --cache-teacher "$work/seed-answers.safetensors"
}
row_resnet() {
  fashion
  trained resnet --data "$fashion" --model resnet20 --epochs 10 --batch 128 --optimizer sgd --lr 0.1 --momentum 0.9 --nesterov \
    --weight-decay 5e-4 --schedule cosine --warmup 400 --augment-op horizontal-flip --augment-op crop=2 --augment-op erase --seed 1
  cat >"$work/cnn13.toml" <<'TOML'
layers = [
    { type = "conv2d", filters = 13, kernel = 3, activation = "relu" },
    { type = "max_pool2d", size = 2 },
    { type = "conv2d", filters = 26, kernel = 3, activation = "relu" },
    { type = "max_pool2d", size = 2 },
    { type = "flatten" },
    { type = "dense", units = 26, activation = "relu" },
    { type = "dense", units = "classes" },
]
TOML
  distilled resnet-student --teacher "$work/resnet.safetensors" --student "$work/cnn13.toml" --data "$fashion" --control \
    --seeds 3 --loss kd=1,temperature=2 --epochs 50 --batch 64 --lr 0.003 --schedule cosine \
    --cache-teacher "$work/resnet-answers.safetensors"
}
row_ensemble() {
  fashion
  local seed teachers=()
  for seed in 1 2 3; do
    trained lenet5-$seed --data "$fashion" --model lenet5 --epochs 15 --batch 64 --lr 0.002 --schedule cosine \
      --seed $seed
    teachers+=(--teacher "$work/lenet5-$seed.safetensors")
  done
  distilled ensemble "${teachers[@]}" --student lenet5 --data "$fashion" --control --seeds 3 --loss kd=1,temperature=2 \
    --epochs 15 --batch 64 --lr 0.002 --schedule cosine --cache-teacher "$work/ensemble-answers.safetensors"
}
# 500 labelled pictures; the others take part without their labels.
row_labels() {
  fetched fashion-mnist
  local few=$work/few.safetensors seed teachers=()
  [ -e "$few" ] || "$DLOPT" prepare "$work/data/fashion-mnist" --split unlabelled=0.99166667 --seed 1 -o "$few" --quiet
  for seed in 1 2 3; do
    trained few-$seed --data "$few" --model cnn --epochs 400 --schedule cosine --augment-op horizontal-flip --augment-op crop=2 \
      --augment-op erase --augment-op mixup=0.4 --seed $seed
    teachers+=(--teacher "$work/few-$seed.safetensors")
  done
  distilled labels "${teachers[@]}" --student cnn --data "$few" --unlabelled unlabelled --control --seeds 3 \
    --loss kd=0.9,temperature=2 --loss ce=0.1 --epochs 3 --batch 64 --schedule cosine --augment-op horizontal-flip \
    --augment-op crop=1 --cache-teacher "$work/labels-answers.safetensors"
}
row_series() {
  fetched series
  local data=$work/vowels.safetensors
  [ -e "$data" ] || "$DLOPT" prepare --train "$work/data/series/JapaneseVowels_TRAIN.ts" \
    --test "$work/data/series/JapaneseVowels_TEST.ts" -o "$data" --quiet
  trained vowels-lstm --data "$data" --model lstm --epochs 60 --batch 16 --schedule cosine --seed 1 \
    --augment-op jitter=0.05 --augment-op scaling=0.1
  printf 'layers = [{ type = "gru", hidden = 32 }, { type = "dense", units = "classes" }]\n' >"$work/gru32.toml"
  distilled series --teacher "$work/vowels-lstm.safetensors" --student "$work/gru32.toml" --data "$data" --control --seeds 5 \
    --loss kd=0.9,temperature=4 --loss ce=0.1 --epochs 100 --batch 16 --lr 0.003 --schedule cosine \
    --augment-op jitter=0.05 --augment-op scaling=0.1
}
# A quarter of the pronunciations to learn from; the control is trained by itself, so that it can be decoded too.
row_sequence() {
  fetched cmudict
  local data=$work/pairs.safetensors half=$work/seq2seq-half.toml name
  [ -e "$data" ] || "$DLOPT" prepare "$work/data/cmudict/cmudict.dict" --split validation=0.03,test=0.03,rest=0.69 --seed 1 -o "$data" --quiet
  trained seq2seq --data "$data" --model seq2seq --epochs 12 --batch 64 --learning-rate 0.002 --schedule cosine --seed 1
  printf 'layers = [{ type = "seq2seq", embedding = 128, hidden = 128, attention = "dot", dropout = 0.2 }]\n' >"$half"
  local usual=(--data "$data" --epochs 6 --batch 64 --learning-rate 0.004 --schedule cosine --seed 1)
  trained sequence-control --model "$half" "${usual[@]}"
  distilled sequence-token --teacher "$work/seq2seq.safetensors" --student "$half" "${usual[@]}" \
    --loss kd=0.9,temperature=2 --loss ce=0.1
  distilled sequence-whole --teacher "$work/seq2seq.safetensors" --student "$half" "${usual[@]}" \
    --loss sequence=0.5,beam=4 --loss kd=0.5,temperature=1
  for name in seq2seq sequence-control sequence-token sequence-whole; do
    echo "== $name, decoded"
    "$DLOPT" eval "$work/$name.safetensors" --data "$data" 2>&1 | head -12
  done
}
# What pruning and quantization lost, won back with the teacher and without it.
row_recovery() {
  seed_network
  "$DLOPT" prune "$work/cnn-1.safetensors" --sparsity 0.95 --scope global -o "$work/pruned.safetensors" --force --quiet
  distilled recovered --teacher "$work/cnn-1.safetensors" --student "$work/pruned.safetensors" --data "$fashion" --control \
    --seeds 3 --loss kd=1,temperature=1 --epochs 3 --batch 64 --lr 2e-3 --schedule cosine \
    --cache-teacher "$work/seed-answers.safetensors"
  distilled int4 --teacher "$work/cnn-1.safetensors" --student "$work/cnn-1.safetensors" --fake-quantize int4 --group channel --data "$fashion" \
    --control --seeds 5 --loss kd=1,temperature=2 --epochs 10 --batch 64 --lr 1e-3 --schedule cosine \
    --cache-teacher "$work/seed-answers.safetensors"
}
# Hinton, Vinyals and Dean, section 3: the transfer set holds no sample of one class.
row_omit() {
  seed_network
  distilled omit --teacher "$work/cnn-1.safetensors" --student width=0.5 --start fresh --data "$fashion" --control \
    --without-class 8 --loss kd=1,temperature=8 --epochs 6 --batch 64 --lr 0.002 --schedule cosine
  python3 -B "$here/omitted_class.py" "$DLOPT" "$work/omit.safetensors" "$fashion" 8 "$work"
}
row_cost() {
  bash "$here/../benches/distill.sh" "$work"
}

for row in "${rows[@]}"; do
  "row_$row"
done

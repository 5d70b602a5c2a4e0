#!/usr/bin/env bash
# Fuzzes everything that reads bytes, on stable Rust, with coverage but without sanitizers.
#
#   bash scripts/fuzz.sh [TARGET|all] [SECONDS]
#
# Builds the targets of tests/fuzz, makes their first inputs from fixtures/ and by the binary, and runs each for SECONDS (60).
# Ends with an error at the first crash, allocation of more than a gibibyte, or input that takes longer than twenty seconds;
# the input stays in tests/fuzz/artifacts. Inputs that were found stay in fuzz/corpus of the target folder, for the next run.
# Needs cargo-fuzz: cargo install cargo-fuzz --locked
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in -*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
seconds=${2:-60}
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_INCREMENTAL=0
cargo fuzz --version >/dev/null 2>&1 || { echo "error: needs cargo-fuzz: cargo install cargo-fuzz --locked" >&2; exit 1; }

all=$(cargo fuzz list --fuzz-dir tests/fuzz)
targets=${1:-all}
[ "$targets" = all ] && targets=$all

cargo build --workspace --locked --quiet
dlopt=$target_dir/debug/dlopt
corpus=$target_dir/fuzz/corpus

# A copy of a safetensors file as `TEXT \0 DATA`, which the targets that begin with a header take.
headed() {
  local from=$1 to=$2 header
  header=$(od -An -tu8 -N8 "$from" | tr -d ' ')
  { head -c $((8 + header)) "$from" | tail -c +9; printf '\0'; tail -c +$((9 + header)) "$from"; } >"$to"
}

# Raw data behind the letter of their format: letter, files with a line of dashes between them.
raw() {
  local letter=$1 to=$2
  shift 2
  { printf '%s' "$letter"; cat "$1"; for next in "${@:2}"; do printf '\n--------\n'; cat "$next"; done; } >"$to"
}

# Everything that the targets begin with, made once.
seed() {
  local made=$1 name
  cp fixtures/digits/iris.csv "$made/rows.csv"
  gzip -dc fixtures/digits/digits.csv.gz | sed -n 1,40p >"$made/digits.csv"
  printf '@problemName s\n@dimensions 2\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n2,2:1,0:b\n3,1,1,1:2,2,2,2:a\n' >"$made/steps.ts"
  printf '{"text":"good day","label":"a"}\n{"text":"bad day","label":"b"}\n{"text":"a day","label":"a"}\n' >"$made/texts.jsonl"
  printf '{"x":1,"y":2.5,"label":"a"}\n{"x":3,"y":-1,"label":"b"}\n' >"$made/rows.jsonl"
  printf 'a cat\tx\nthe dog\ty\n"quoted"\tx\n' >"$made/rows.tsv"
  printf 'CAT  K AE1 T\nDOG  D AO1 G\nCATS(2)  K AE1 T S\n' >"$made/words.dict"
  printf 'It is a truth universally acknowledged that a text is read on.\n' >"$made/book.txt"
  printf 'a cat\na dog\n' >"$made/lines.en"
  printf 'eine Katze\nein Hund\n' >"$made/lines.de"
  printf '\0\0\10\3\0\0\0\2\0\0\0\2\0\0\0\3abcdefghijkl' >"$made/images.idx"
  printf '\0\0\10\1\0\0\0\2\0\1' >"$made/labels.idx"
  { head -c 3073 /dev/zero; printf '\1'; head -c 3072 /dev/zero | tr '\0' 'a'; } >"$made/batch.bin"

  "$dlopt" prepare "$made/rows.csv" --split-at 100,120 -q --force -o "$made/vectors.safetensors"
  "$dlopt" prepare "$made/digits.csv" --shape 8x8 --split-at 20,30 -q --force -o "$made/pictures.safetensors"
  "$dlopt" prepare "$made/steps.ts" --split-at 1,2 -q --force -o "$made/series.safetensors"
  "$dlopt" prepare "$made/texts.jsonl" --text text --label label --step tokenise=words --split-at 1,2 -q --force -o "$made/texts.safetensors"
  "$dlopt" prepare "$made/words.dict" --split-at 1,2 -q --force -o "$made/words.safetensors"
  cat >"$made/net.toml" <<'TOML'
layers = [
    { type = "conv2d", filters = 4, kernel = 3, padding = 1, activation = "relu" },
    { type = "batch_norm" },
    { type = "max_pool2d", size = 2 },
    { type = "flatten" },
    { type = "dense", units = 16, activation = "relu" },
    { type = "dense", units = "classes" },
]
TOML
  "$dlopt" train --model "$made/net.toml" --data "$made/pictures.safetensors" --epochs 1 -q --force -o "$made/net.safetensors"
  local scheme
  for scheme in w4a16:8 w4a16_asym:8 w8a8 w2a16:8 fp8_block bf16; do
    "$dlopt" quantize "$made/net.safetensors" --scheme "$scheme" --fallback channel -q --force -o "$made/$scheme.safetensors"
  done
  "$dlopt" prune "$made/net.safetensors" --sparsity 0.7 --store bitmask -q --force -o "$made/bitmask.safetensors"
  "$dlopt" quantize "$made/net.safetensors" --scheme codebook4 -q --force -o "$made/codebook.safetensors"
  "$dlopt" logits --teacher "$made/net.safetensors" --data "$made/pictures.safetensors" -q --force -o "$made/answers.safetensors"
  "$dlopt" logits --teacher "$made/net.safetensors" --data "$made/pictures.safetensors" --top 2 -q --force -o "$made/top.safetensors"

  for name in $all; do mkdir -p "$corpus/$name"; done
  local file
  for file in fixtures/golden/safetensors/*.safetensors; do cp "$file" "$corpus/safetensors/"; done
  for file in fixtures/golden/compressed-tensors/*.safetensors "$made"/{w4a16:8,w4a16_asym:8,w8a8,w2a16:8,fp8_block,bf16,bitmask,net}.safetensors; do
    headed "$file" "$corpus/checkpoint/$(basename "$file")"
  done
  headed "$made/codebook.safetensors" "$corpus/checkpoint/codebook"
  cp fixtures/import/*.pth fixtures/import/*.npz fixtures/import/*.npy "$corpus/import/"
  for file in vectors pictures series texts words; do headed "$made/$file.safetensors" "$corpus/dataset/$file"; done
  for file in answers top; do headed "$made/$file.safetensors" "$corpus/answers/$file"; done
  for file in net w4a16:8 bitmask fp8_block; do
    "$dlopt" pack "$made/$file.safetensors" -q --force -o "$corpus/packed/$file"
  done
  mkdir -p "$made/folder"
  "$dlopt" unpack "$corpus/packed/net" -q --force -o "$made/folder/model.safetensors"
  cp "$made/net.toml" "$made/folder/notes.txt"
  "$dlopt" pack "$made/folder" -q --force -o "$corpus/packed/folder"
  raw a "$corpus/raw_data/a" "$made/rows.csv"
  raw b "$corpus/raw_data/b" "$made/rows.tsv"
  raw c "$corpus/raw_data/c" "$made/steps.ts"
  raw d "$corpus/raw_data/d" "$made/rows.jsonl"
  raw e "$corpus/raw_data/e" "$made/texts.jsonl"
  raw f "$corpus/raw_data/f" "$made/words.dict"
  raw g "$corpus/raw_data/g" "$made/book.txt"
  raw h "$corpus/raw_data/h" "$made/lines.en" "$made/lines.de"
  raw i "$corpus/raw_data/i" "$made/images.idx" "$made/labels.idx"
  raw j "$corpus/raw_data/j" "$made/batch.bin"
  raw k "$corpus/raw_data/k" fixtures/import/stored.npz
  raw l "$corpus/raw_data/l" "$made/net.safetensors"
  raw m "$corpus/raw_data/m" "$made/rows.csv"
  gzip -c "$made/rows.csv" >"$made/rows.csv.gz"
  raw n "$corpus/raw_data/n" "$made/rows.csv.gz"
  raw o "$corpus/raw_data/o" "$made/rows.csv"
  cp fixtures/features/images/{digit,pullover,boot}.png "$corpus/picture/"
  cp fixtures/sounds/* fixtures/features/sounds/*.wav "$corpus/sound/"
  cp crates/dlopt-model/src/presets/*.toml "$made/net.toml" "$corpus/description/"
  # The config as it stands in the header, its quotes escaped there.
  for file in net w4a16:8; do
    head -c 20000 "$made/$file.safetensors" | grep -ao -m 1 '"config":"\(\\.\|[^"\\]\)*"' |
      sed 's/^"config":"//; s/"$//; s/\\"/"/g' >"$corpus/config/$file"
  done
  cp fixtures/digits/*.toml fixtures/silero/*.toml "$corpus/recipe/"
  printf 'resize=32x32,filter=area' >"$corpus/recipe/step"
  printf '*.mlp.*=w4a16:32' >"$corpus/recipe/rule"
  printf '[[ops]]\nop = "rotate"\ndegrees = [-15, 15]\n[[ops]]\nop = "horizontal-flip"\np = 0.5\n' >"$corpus/recipe/ops"
}

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
seed "$made"

for target in $targets; do
  printf '\n== %s, %s s\n' "$target" "$seconds"
  cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" "$corpus/$target" -- \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 -verbosity=0
done

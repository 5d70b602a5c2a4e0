#!/usr/bin/env bash
# Everything that must hold before a push; CI runs exactly this.
set -euo pipefail
cd "$(dirname "$0")/.."

# A fresh clone is built once.
export CARGO_INCREMENTAL=0

step() { printf '\n== %s\n' "$*"; }

step "every file of tests/ and benches/ is listed in a manifest"
missing=0
for file in tests/*.rs benches/*.rs; do
  [ -e "$file" ] || continue
  if ! grep -qs "path = \"../../$file\"" crates/*/Cargo.toml; then
    echo "error: $file is listed in no crates/*/Cargo.toml, so cargo never compiles it" >&2
    missing=1
  fi
done
[ "$missing" = 0 ]

step "format"
cargo fmt --all --check

step "lint"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

step "tests: the README's command"
command=$(grep -m1 '^cargo test' README.md)
echo "\$ $command"
$command

step "the README's commands"
# By the binary that the tests have built: a release build takes many minutes more and changes no byte.
grep '^cargo run --release' README.md | while read -r demo; do
  demo="${CARGO_TARGET_DIR:-target}/debug/dlopt ${demo#cargo run --release -- }"
  echo "\$ $demo"
  # Its own standard input, so that no command takes the rest of the list.
  bash -c "$demo" </dev/null
done
rm -rf target/silero-small.safetensors target/digits*.safetensors target/digits-report

echo
echo "all checks passed"

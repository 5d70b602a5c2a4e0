#!/usr/bin/env bash
# Measures products with compressed matrices against PyTorch, llama.cpp and candle on the CPU, in interleaved runs.
#
#   benches/compressed.sh WORK [--rounds 3] [--shapes 4096x4096,384x384,1536x384,384x1536,128x3136] [--threads 1,2]
#                              [--without torch,llama.cpp,candle]
#
# WORK, outside the repository, takes a Python environment with PyTorch and CMake, the sources of llama.cpp (those that
# the package llama-cpp-python brings) and what is built: 2 GB, half an hour of building the first time. Keep the
# machine quiet: threads of all sides wait for each other by spinning. Prints Markdown on standard output and writes
# WORK/compressed.json. DLOPT_TORCH_VENV names another environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift

# Versions of the day; what is built once is kept, and the versions are printed with the figures.
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 none; do
  [ "$python" != none ] || { echo "error: no Python 3.11 or newer with the module \`venv\`" >&2; exit 1; }
  "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done
venv=${DLOPT_TORCH_VENV:-$work/venv-torch}
"$python" -B "$here/../scripts/torch_venv.py" "$venv" numpy cmake ninja

if [ ! -x "$work/ggml/side" ]; then
  mkdir -p "$work/ggml"
  if ! ls "$work/ggml"/*.tar.gz >/dev/null 2>&1; then
    # pip asks the package for its metadata, for which it wants CMake, but builds nothing.
    PATH="$venv/bin:$PATH" "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
      --no-binary llama-cpp-python --dest "$work/ggml" llama-cpp-python >&2
  fi
  tar -xzf "$work/ggml"/*.tar.gz -C "$work/ggml"
  ggml=$(echo "$work/ggml"/llama_cpp_python-*/vendor/llama.cpp/ggml)
  # A template that only an installation reads, and that the package leaves out.
  [ -e "$ggml/ggml.pc.in" ] || : >"$ggml/ggml.pc.in"
  PATH="$venv/bin:$PATH" cmake -S "$ggml" -B "$work/ggml/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF >&2
  PATH="$venv/bin:$PATH" cmake --build "$work/ggml/build" >&2
  library=$(dirname "$(find "$work/ggml/build" -name 'libggml.so' | head -1)")
  c++ -O2 -std=c++17 -I "$ggml/include" "$here/compressed/ggml_side.cpp" -o "$work/ggml/side" \
    -L "$library" -lggml -lggml-cpu -lggml-base -Wl,-rpath,"$library"
fi

# A copy, so that its lock file does not land in the repository.
cp -r "$here/compressed/candle_side" "$work"
(cd "$work/candle_side" && RUSTFLAGS="-C target-cpu=native" cargo build --release --quiet)

bench=$(cd "$here/.." && cargo bench --locked -p dlopt-kernels --bench compressed --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)

"$venv/bin/python" -B "$here/compressed/compare.py" "$bench" "$work" "$venv/bin/python" "$@"

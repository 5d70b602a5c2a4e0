#!/usr/bin/env bash
# What a step of distillation costs: training a student plainly, with cached answers, with a live teacher, and with the
# weights that int4 stores (--fake-quantize), in turns; and the teacher alone, so that a live step can be held against the
# sum of its parts. Prints medians and ratios.
#
#   bash benches/distill.sh WORK [ROUNDS]
#
# WORK, outside the repository, takes Fashion-MNIST, networks and reports; 5 rounds unless another number is given. DLOPT names
# another binary. Skips when the data cannot be fetched.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
rounds=${2:-5}
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
fashion=$work/fashion.safetensors
if [ ! -e "$fashion" ]; then
  bash "$here/../scripts/fetch-data.sh" fashion-mnist "$work/data" >/dev/null || { echo "skipped: no data"; exit 0; }
  "$DLOPT" prepare "$work/data/fashion-mnist" --split validation=0.1 --seed 1 -o "$fashion" --quiet
fi
teacher=$work/bench-teacher.safetensors
"$DLOPT" train --data "$fashion" --model cnn --epochs 1 --validation none --seed 1 --quiet --force -o "$teacher"

# A student's training and its control's: names, options. Their samples a second go to files of these names.
student() {
  local name=$1 control=$2
  shift 2
  "$DLOPT" distill --teacher "$teacher" --student width=0.5 --start fresh --data "$fashion" --test none --validation none \
    --epochs 1 --batch 64 --seed 1 --control "$@" --quiet --force --report "$work/bench.json" -o "$work/bench.safetensors"
  python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
for history in report["histories"]:
    for epoch in history["epochs"]:
        print(history["role"], int(sys.argv[2]) / epoch["seconds"])
' "$work/bench.json" 54000 | while read -r role rate; do
    if [ "$role" = control ]; then echo "$rate" >>"$work/bench-$control.txt"; else echo "$rate" >>"$work/bench-$name.txt"; fi
  done
}

rm -f "$work"/bench-{plain,cached,live,quantized,cached-quantized,teacher}.txt "$work/bench-answers.safetensors"
"$DLOPT" logits --teacher "$teacher" --data "$fashion" -o "$work/bench-answers.safetensors" --quiet
for _ in $(seq "$rounds"); do
  student cached plain --cache-teacher "$work/bench-answers.safetensors"
  student live plain
  student cached-quantized quantized --cache-teacher "$work/bench-answers.safetensors" --fake-quantize int4 --group channel
  "$DLOPT" eval "$teacher" --data "$fashion" --split train --batch 64 --json --quiet |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["model"]["samples_per_second"])' >>"$work/bench-teacher.txt"
done
python3 - "$work" <<'PYTHON'
import statistics, sys

def median(name):
    return statistics.median(float(line) for line in open(f"{sys.argv[1]}/bench-{name}.txt"))

names = ["plain", "cached", "live", "quantized", "cached-quantized", "teacher"]
plain, cached, live, quantized, both, teacher = (median(name) for name in names)
parts = 1 / (1 / plain + 1 / teacher)
print(f"samples a second, medians: plain {plain:,.0f}, cached teacher {cached:,.0f}, live teacher {live:,.0f}, teacher alone {teacher:,.0f}")
print(f"and with weights of int4: plain {quantized:,.0f}, cached teacher {both:,.0f}")
print(f"a step with cached answers takes {plain / cached:.3f} of a plain one")
print(f"a step with a live teacher takes {parts / live:.3f} of a plain one and the teacher's answers ({parts:,.0f} samples a second)")
print(f"a plain step with --fake-quantize takes {plain / quantized:.3f} of one without, and one with cached answers {cached / both:.3f}")
PYTHON

#!/usr/bin/env bash
# Packing: bytes and speed on a real checkpoint (MiniLM) as bf16, as int4, and 90 % pruned, beside zstd where that is installed.
#
#   bash benches/pack.sh WORK [ROUNDS]
#
# WORK, outside the repository, takes checkpoints. DLOPT names another binary, MODEL another checkpoint. One thread each; every
# round runs all contenders (zstd -19 once), medians count. Files lie in the page cache; what is written is written to the disk of WORK.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in '' | -*) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
mkdir -p "$1"
work=$(cd "$1" && pwd)
rounds=${2:-5}
if [ -z "${DLOPT:-}" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  DLOPT="$here/../target/release/dlopt"
fi
model=${MODEL:-$work/data/minilm/model.safetensors}
[ -e "$model" ] || bash "$here/../scripts/fetch-data.sh" minilm "$work/data" >/dev/null || { echo "skipped: minilm cannot be fetched"; exit 0; }
[ -e "$work/bf16.safetensors" ] || "$DLOPT" convert "$model" --dtype bf16 -o "$work/bf16.safetensors" --quiet
[ -e "$work/f32.safetensors" ] || "$DLOPT" convert "$model" -o "$work/f32.safetensors" --quiet
[ -e "$work/int4.safetensors" ] || "$DLOPT" quantize "$model" --scheme w4a16 --group 128 -o "$work/int4.safetensors" --quiet
[ -e "$work/pruned.safetensors" ] || "$DLOPT" prune "$work/bf16.safetensors" --sparsity 0.9 -o "$work/pruned.safetensors" --quiet

DLOPT="$DLOPT" WORK="$work" ROUNDS="$rounds" exec python3 -B - <<'PYTHON'
import json, os, shutil, statistics, subprocess, time

work, dlopt, rounds = os.environ["WORK"], os.environ["DLOPT"], int(os.environ["ROUNDS"])

def timed(command):
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - began, done.stdout

features = {line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")}
print(f"one thread, medians of {rounds} rounds; {', '.join(sorted(features))}\n")
print("| checkpoint | bytes | contender | packed | of it | above the entropy of the planes | packs, MB/s | unpacks, MB/s |")
print("|---|---|---|---|---|---|---|---|")
for name in ("bf16", "f32", "int4", "pruned"):
    source = f"{work}/{name}.safetensors"
    size = os.path.getsize(source)
    contenders = ["dlopt pack"] + ([f"zstd -{level}" for level in (3, 19)] if shutil.which("zstd") else [])
    times = {contender: ([], []) for contender in contenders}
    facts = {}
    for round in range(rounds):
        for contender in contenders:
            # Half a minute for what no round changes.
            if contender == "zstd -19" and round > 0:
                continue
            packed, again = f"{work}/{name}.packed", f"{work}/{name}.again"
            if contender == "dlopt pack":
                there, out = timed([dlopt, "pack", source, "-o", packed, "--threads", "1", "--json", "--force"])
                back, _ = timed([dlopt, "unpack", packed, "-o", again, "--threads", "1", "--quiet", "--force"])
                planes = json.loads(out)["planes"]
                entropy = sum(plane["entropy_bytes"] for plane in planes)
                above = f"{100 * (os.path.getsize(packed) / entropy - 1):.1f} %"
            else:
                there, _ = timed(["zstd", "-q", "-f", contender.split()[1], source, "-o", packed])
                back, _ = timed(["zstd", "-q", "-f", "-d", packed, "-o", again])
                above = ""
            assert open(source, "rb").read() == open(again, "rb").read(), contender
            facts[contender] = (os.path.getsize(packed), above)
            times[contender][0].append(there)
            times[contender][1].append(back)
    for contender in contenders:
        packed, above = facts[contender]
        there, back = (size / statistics.median(each) / 1e6 for each in times[contender])
        print(f"| {name} | {size:,} | {contender} | {packed:,} | {100 * packed / size:.1f} % | {above} | {there:.0f} | {back:.0f} |")
PYTHON

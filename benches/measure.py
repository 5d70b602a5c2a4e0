"""Runs commands in turn and measures them; shared by the scripts beside it. Standard library only.

A case is one command or several joined by pipes. Each round runs every case once (A B C, A B C, …), so that a slow
minute of the machine falls on all of them. Before each run `sync` is waited for; after it the output is deleted.
Linux counts the memory of the parent at the moment of starting a child to the child's peak, so no peak below that of
this Python (some 17 MiB) can be seen.
"""
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field


@dataclass
class Case:
    """What to run: `stages` are commands joined by pipes; `output` is deleted before each run."""

    name: str
    stages: list
    output: pathlib.Path | None = None
    env: dict | None = None
    runs: list = field(default_factory=list)

    def wall(self):
        return statistics.median(run.wall for run in self.runs)


@dataclass
class Run:
    """One run: seconds, and the memory of the largest process, MiB. `rss` has one number a stage."""

    wall: float
    cpu: float
    rss: list
    bytes: int
    text: str


class Failed(Exception):
    pass


def run_once(case):
    if case.output:
        remove(case.output)
    os.sync()
    stages, before = [], None
    said, complaint = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    start = time.perf_counter()
    for number, command in enumerate(case.stages):
        last = number == len(case.stages) - 1
        stage = subprocess.Popen(
            [str(word) for word in command], stdin=before if before is not None else subprocess.DEVNULL,
            stdout=said if last else subprocess.PIPE, stderr=complaint, env=case.env,
        )
        if before is not None:
            before.close()
        before = stage.stdout
        stages.append(stage)
    cpu, rss, codes = 0.0, [], []
    for stage in reversed(stages):
        _, status, usage = os.wait4(stage.pid, 0)
        stage.returncode = os.waitstatus_to_exitcode(status)
        codes.append(stage.returncode)
        cpu += usage.ru_utime + usage.ru_stime
        rss.insert(0, usage.ru_maxrss / 1024)
    wall = time.perf_counter() - start
    with said, complaint:
        said.seek(0)
        complaint.seek(0)
        text, words = said.read().decode(errors="replace"), complaint.read().decode(errors="replace")
    if any(codes):
        command = " | ".join(" ".join(map(str, stage)) for stage in case.stages)
        raise Failed(f"{case.name}: {command}: exit codes {codes[::-1]}\n{(words or text)[-2000:]}")
    return Run(wall, cpu, rss, size(case.output), text)


def measure(cases, rounds, warm_up=1):
    """Fills `runs` of every case; a case that fails is told and left out."""
    alive = list(cases)
    for number in range(warm_up + rounds):
        for case in list(alive):
            progress(f"round {number + 1} of {warm_up + rounds}: {case.name}")
            try:
                run = run_once(case)
            except Failed as failure:
                progress(f"FAILED {failure}")
                print(f"\nFAILED: {failure}\n", flush=True)
                alive.remove(case)
                case.runs.clear()
                continue
            if number >= warm_up:
                case.runs.append(run)
            # At once, so that each run writes into memory that was in use a moment ago: on a virtual machine the
            # first touch of memory costs more than a pass, and would fall on whichever case comes last.
            if case.output:
                remove(case.output)
    return [case for case in cases if case.runs]


def ratio(case, base):
    """The median of the ratios of wall times, round by round."""
    return statistics.median(a.wall / b.wall for a, b in zip(case.runs, base.runs))


def row(case, base, limit=None):
    """A Markdown row: wall, cpu, memory, bytes written, ratio to `base`, limit and whether it is kept."""
    walls = [run.wall for run in case.runs]
    peak = max(max(run.rss) for run in case.runs)
    against = ratio(case, base)
    kept = "" if limit is None else f"≤ {limit:g}: {'kept' if against <= limit else 'MISSED'}"
    return (f"| {case.name} | {statistics.median(walls):.3f} ({min(walls):.3f}–{max(walls):.3f}) "
            f"| {statistics.median(run.cpu for run in case.runs):.2f} | {peak:.0f} "
            f"| {case.runs[0].bytes / 1e6:.0f} | {against:.2f} | {kept} |")


HEAD = ("| what | wall s, median (min–max) | cpu s | peak MiB of the largest process | MB written | × cp | limit |\n"
        "|---|---|---|---|---|---|---|")


def machine(dlopt):
    """A few lines that say what the figures were measured on; `dlopt` is None where no binary is."""
    model, flags = platform.machine(), set()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            if key.strip() == "flags":
                flags = set(value.split())
    except OSError:
        pass
    known = [f for f in ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx_vnni") if f in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = subprocess.run([dlopt, "--version"], capture_output=True, text=True).stdout.strip() if dlopt else "kernels of dlopt"
    return (f"{version}; {platform.system()} {platform.release()}, {model}, {os.cpu_count()} cores "
            f"({' '.join(known) or 'none of the extensions looked for'}), {memory:.0f} GiB of memory; "
            f"load average {os.getloadavg()[0]:.1f} at this point.\n")


def size(path):
    if path is None or not path.exists():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def progress(text):
    print(text, file=sys.stderr, flush=True)

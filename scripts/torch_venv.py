"""Makes a Python environment with torch and the packages named, for the CPU only.

    python3 torch_venv.py VENV PACKAGE...        such as: torch_venv.py .venv transformers compressed-tensors

The ordinary Linux wheel of torch asks for some 3 GB of CUDA packages that a CPU never calls. Here nothing that
only torch asks for on Linux is installed, and the libraries that torch's own libraries name get empty stand-ins
(see torch_without_cuda.py, which needs gcc and binutils). On other systems torch is installed as it is.

pip's resolver would insist on the CUDA packages, so each package is installed without its requirements, and what
the installed ones require is collected and installed in turn until nothing is missing.
Running it again with the same words does nothing. Needs Python 3.10 or newer.
"""
import json
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
LINUX = sys.platform == "linux"

# Run inside the new environment: what is required by the packages installed there and not met, as pip's words.
MISSING = r"""
import collections, importlib.metadata as metadata, json, re, sys
from pip._vendor.packaging.requirements import Requirement

skip = re.compile(sys.argv[1])
wanted = collections.defaultdict(set)
seen, queue = set(), [(Requirement(word).name, ()) for word in sys.argv[2:]]
for word in sys.argv[2:]:
    wanted[Requirement(word).name.lower().replace("_", "-")].add(str(Requirement(word).specifier))
while queue:
    name, extras = queue.pop()
    key = (name.lower().replace("_", "-"), extras)
    if key in seen:
        continue
    seen.add(key)
    try:
        requires = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        continue
    for line in requires:
        need = Requirement(line)
        name_of_need = need.name.lower().replace("_", "-").replace(".", "-")
        if skip.match(name_of_need):
            continue
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        wanted[name_of_need].add(str(need.specifier))
        queue.append((need.name, tuple(sorted(need.extras))))
missing = []
for name, specifiers in sorted(wanted.items()):
    need = Requirement(name + ",".join(sorted(s for s in specifiers if s)))
    try:
        met = need.specifier.contains(metadata.version(name), prereleases=True)
    except metadata.PackageNotFoundError:
        met = False
    if not met:
        missing.append(str(need))
print(json.dumps(missing))
"""

# What torch alone wants on Linux and a CPU never calls.
GPU_ONLY = r"(nvidia|cuda)-|triton$"


def main():
    if sys.version_info < (3, 10):
        sys.exit("error: Python 3.10 or newer is needed; this is " + sys.version.split()[0])
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    root, packages = pathlib.Path(sys.argv[1]), sys.argv[2:]
    done = root / "dlopt-packages.json"
    if done.exists() and json.loads(done.read_text()) == packages:
        return
    say(f"making {root} with {' '.join(packages)}; this takes minutes")
    if not (root / "pyvenv.cfg").exists():
        venv.create(root, with_pip=True)
    python = root / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    words = [*packages, "torch"]
    # torch comes last, when it is known which versions the others take.
    missing = packages
    while missing:
        pip(python, "install", "--quiet", "--no-deps", *missing)
        found = subprocess.run(
            [python, "-c", MISSING, GPU_ONLY if LINUX else r"$^", *words], check=True, capture_output=True, text=True
        )
        missing, before = json.loads(found.stdout), missing
        if missing == before:
            sys.exit("error: pip installed " + ", ".join(missing) + ", and it is still not there")
    if LINUX:
        subprocess.run([python, HERE / "torch_without_cuda.py"], check=True)
    # Start-up is measured and waited for, so modules are compiled here and not at their first import.
    subprocess.run([python, "-m", "compileall", "-q", "-j", "0", root / "lib"], check=False, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    done.write_text(json.dumps(packages))


def pip(python, *words):
    say("pip " + " ".join(words))
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *words], check=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

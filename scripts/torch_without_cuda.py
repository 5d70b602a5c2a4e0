"""Makes the ordinary Linux wheel of torch importable without its CUDA packages (some 3 GB saved).

Run by the Python that has torch; needs gcc and binutils. Beside torch's own libraries it builds an empty stand-in
for each CUDA library that they name: every function they import, with its symbol version, returns an error code,
or a text where one is asked for. Work on the CPU calls few of them (transformers asks whether a CUDA stream is being
captured, and takes the error for a no); torch.cuda.is_available() says False. Nothing to do where torch asks for none.
"""
import collections
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

GPU_LIBRARY = re.compile(r"lib(cu|nv|nccl)")
SAYS_TEXT = re.compile(r"\w+(Error|Status)(String|Name)$|ncclGetLastError$")
GPU_FUNCTION = re.compile(r"(cu[a-zA-Z]|nccl|nvrtc|nvshmem)")


def output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def stand_in(name):
    if SAYS_TEXT.match(name):
        return f'const char *{name}(void) {{ return "no CUDA: a stand-in"; }}\n'
    return f"long {name}(void) {{ return 999; }}\n"


def main():
    libraries = pathlib.Path(importlib.util.find_spec("torch").origin).parent / "lib"
    present = {path.name for path in libraries.iterdir()}
    shared = sorted(libraries.glob("*.so*"))
    wanted = set()
    for tool in ("gcc", "readelf", "nm"):
        if not shutil.which(tool):
            sys.exit(f"error: `{tool}` is missing; torch's stand-ins for CUDA need it\n  try: install gcc and binutils")
    for path in shared:
        names = re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-d", str(path)))
        wanted |= {name for name in names if GPU_LIBRARY.match(name) and name not in present}

    versioned = collections.defaultdict(lambda: collections.defaultdict(set))
    plain = set()
    for path in shared:
        owner, library = {}, None
        for line in output("readelf", "-V", "-W", str(path)).splitlines():
            if found := re.search(r"File: (\S+)", line):
                library = found.group(1)
            if (found := re.search(r"Name: (\S+)\s+Flags", line)) and library:
                owner[found.group(1)] = library
        for line in output("nm", "-D", "--undefined-only", str(path)).splitlines():
            name, _, version = line.split()[-1].partition("@")
            version = version.lstrip("@")
            if owner.get(version) in wanted:
                versioned[owner[version]][version].add(name)
            elif not version and GPU_FUNCTION.match(name):
                plain.add(name)

    for library in sorted(wanted):
        by_version = versioned.get(library, {})
        names = set().union(*by_version.values()) if by_version else plain
        source = "".join(stand_in(name) for name in sorted(names))
        command = ["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{library}",
                   "-o", str(libraries / library)]
        versions = libraries / "version.map"
        if by_version:
            versions.write_text("\n".join(f"{version} {{ global: {' '.join(n + ';' for n in sorted(of))} }};"
                                          for version, of in by_version.items()))
            command.append(f"-Wl,--version-script={versions}")
        subprocess.run(command, input=source, text=True, check=True)
        versions.unlink(missing_ok=True)
    print(len(wanted), "stand-ins beside torch's libraries", file=sys.stderr)


if __name__ == "__main__":
    main()

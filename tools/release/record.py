"""Writes public_surface.toml, the record of the public names of all packages.

tests/test_public_surface.py demands that every recorded name is still there and that every recorded
argument is still accepted. `hatch run release:check` demands that the record is up to date for the
version to be released, and that this version keeps everything in the record of the previous release
that was not deprecated there.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import cast, TypedDict

from check_wheels import ROOT

from release.checkout import packages
from release.surface import missing, Surface, surface


FILE = Path("tools", "release", "public_surface.toml")
HEADER = """\
# The public names of every package, and the parameters of its functions, classes and methods, as of
# the version given here. Written by `hatch run release:record`; the section "Releases" of
# CONTRIBUTING.md says when. Until the first tags are set, the baseline is the versions below.
"""


class Answer(TypedDict):
    """Holds the surfaces of a checkout, and what each lacks compared with an earlier one: what was
    not deprecated there, and everything.
    """

    surfaces: dict[str, Surface]
    missing: dict[str, list[str]]
    gone: dict[str, list[str]]


def read(text: str) -> dict[str, Surface]:
    return cast(dict[str, Surface], tomllib.loads(text))


def written(surfaces: dict[str, Surface]) -> str:
    # A string of JSON is one of TOML.
    lines = [HEADER]
    for package, own in sorted(surfaces.items()):
        lines += [f"[{package}]", f"version = {json.dumps(own['version'])}"]
        for key, entries in (("deprecated", own["deprecated"]), ("names", own["names"])):
            inside = [f"  {json.dumps(entry)}," for entry in entries]
            lines += [f"{key} = [", *inside, "]"] if inside else [f"{key} = []"]
        lines += ["", f"[{package}.callables]"]
        lines += [f"{json.dumps(k)} = {json.dumps(v)}" for k, v in own["callables"].items()]
        lines.append("")
    return "\n".join(lines)


def answer(root: Path, released: dict[str, Surface]) -> Answer:
    """Compares the packages of a checkout with the surfaces that were released, in a process that
    imports the packages from that checkout.
    """
    command = (sys.executable, "-B", "-m", "release.record", str(root))
    done = subprocess.run(command, input=json.dumps(released), capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(f"the packages of {root} cannot be imported: {reason}")
    return json.loads(done.stdout)


def main(root: Path, released: dict[str, Surface]) -> Answer:
    found = packages(root)
    sys.path[:0] = [str(package.source.parent) for package in found.values()]
    file = root / FILE
    before = read(file.read_text(encoding="utf-8")) if file.exists() else {}
    entire = {
        name: cast(Surface, {**promised, "deprecated": []}) for name, promised in released.items()
    }
    return Answer(
        surfaces={name: surface(p.module, before.get(name)) for name, p in found.items()},
        missing={name: [*missing(promised)] for name, promised in released.items()},
        gone={name: [*missing(promised)] for name, promised in entire.items()},
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(main(Path(sys.argv[1]), json.load(sys.stdin))))
    else:
        (ROOT / FILE).write_text(written(main(ROOT, {})["surfaces"]), encoding="utf-8")

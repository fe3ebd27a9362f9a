"""Builds the files of a release, sdists and wheels made from them, and puts them into dist/.

Contents and metadata are compared with the sources and checked by twine and check-wheel-contents.
Each wheel is installed and imported in a fresh environment outside the checkout, with its siblings
built from the same checkout. Files of earlier builds are removed from dist/. If a check fails,
dist/ is left as it was.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from check_wheels import build, check_alone, failure, Report, ROOT, run, wheel_of, workspace


def main() -> int:
    packages = workspace()
    names = [package.name for package in packages]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "packages", nargs="*", metavar="PACKAGE", help=f"one of {', '.join(names)} (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "dist", help="the folder, instead of dist/"
    )
    arguments = parser.parse_args()
    for name in arguments.packages:
        if name not in names:
            parser.error(f"PACKAGE must be one of {', '.join(names)}, got {name!r}")
    chosen = [p for p in packages if not arguments.packages or p.name in arguments.packages]
    report = Report()
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        wheels = Path(folder).resolve() / "wheels"
        if not build(packages, wheels, report):
            return 1
        files = []
        for package in chosen:
            wheel = wheel_of(package, wheels)
            sdist = wheels / f"{package.stem}-{package.version}.tar.gz"
            files += [sdist, wheel]
            for tool, *given in (
                ("twine", "check", "--strict", sdist, wheel),
                ("check_wheel_contents", "--no-config", wheel),
            ):
                process = run(sys.executable, "-m", tool, *given, cwd=wheels, check=False)
                report.check(f"{package.name}: {tool}", failure(process))
            check_alone(package, packages, wheels, sys.executable, report)
        if report.failed:
            print(f"{report.failed} checks failed: {arguments.output} is left as it was")
            return 1
        arguments.output.mkdir(parents=True, exist_ok=True)
        for old in (*arguments.output.glob("*.whl"), *arguments.output.glob("*.tar.gz")):
            old.unlink()
        for file in files:
            print(shutil.copy2(file, arguments.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())

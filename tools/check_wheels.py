"""Proves that every distribution of the workspace stands alone.

Builds all sdists, and from them the wheels, in a temporary folder. Each wheel is then installed by
itself into a fresh environment outside the checkout, compared with what its `pyproject.toml`
declares, imported with warnings as errors, and tested. With `--lowest`, each has the lowest
versions that it and what it needs declare, and is tested with these.

The distributions, their import names, versions, dependencies and test requirements are read from
the `pyproject.toml` files.
"""

import argparse
import ast
import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version


ROOT = Path(__file__).resolve().parents[1]
SDIST_ENTRIES = {
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
    "src",
}

# These programs run in the environment of a wheel, and print their answer as the last line. The
# first lists what is installed. The second imports all modules of the package, and says from where.
INVENTORY = """
import importlib.metadata, json
print(json.dumps({
    "distributions": {
        d.metadata["Name"]: [d.version, d.requires or [], str(d.locate_file(""))]
        for d in importlib.metadata.distributions()
    },
    "providers": importlib.metadata.packages_distributions(),
}))
"""
IMPORT = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    importlib.import_module(module.name)
print(json.dumps({"file": package.__file__, "version": package.__version__}))
"""

# A pytest plugin for the same environment, because `pythonpath`, a conftest or an import mode could
# put the checkout before the installed wheel.
PLUGIN = """
import pathlib, sys
TESTED, MODULES = {tested!r}, {modules!r}
def pytest_sessionfinish(session):
    loaded = {{n: m for n, m in sys.modules.items() if n.partition(".")[0] in MODULES}}
    prefix = pathlib.Path(sys.prefix).resolve()
    complaints = [
        f"{{n}} comes from {{m.__file__}}, which is not in the environment"
        for n, m in loaded.items()
        if prefix not in pathlib.Path(m.__file__).resolve().parents
    ] + [f"no test imports {{n}}" for n in TESTED if n not in loaded]
    if complaints:
        print("", *complaints, sep="\\n")
        session.exitstatus = 1
"""


@dataclass(frozen=True)
class Package:
    """Describes a distribution of the workspace, as its sources declare it."""

    folder: Path

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text())

    @property
    def name(self) -> str:
        return self.pyproject["project"]["name"]

    @property
    def stem(self) -> str:
        """Gives the start of the names of the built files."""
        return canonicalize_name(self.name).replace("-", "_")

    @property
    def requires_python(self) -> str:
        return self.pyproject["project"]["requires-python"]

    @property
    def source(self) -> Path:
        (source,) = self.pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        return self.folder / source

    @property
    def module(self) -> str:
        return self.source.name

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Reads the source files, by their name in the wheel."""
        return {
            file.relative_to(self.source.parent).as_posix(): file.read_bytes()
            for file in sorted(self.source.rglob("*"))
            if file.is_file() and "__pycache__" not in file.parts
        }

    @cached_property
    def version(self) -> str:
        file = self.folder / self.pyproject["tool"]["hatch"]["version"]["path"]
        (version,) = re.findall(r'^__version__ = "(.+)"$', file.read_text(), re.MULTILINE)
        return version

    @cached_property
    def dependencies(self) -> dict[str, Requirement]:
        requirements = map(Requirement, self.pyproject["project"]["dependencies"])
        return {canonicalize_name(r.name): r for r in requirements}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Finds the top-level modules that the sources import, except for the package itself, and
        the files that import them.
        """
        found: dict[str, set[str]] = {}
        for file, content in self.files.items():
            if not file.endswith(".py"):
                continue
            for node in ast.walk(ast.parse(content, file)):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                else:
                    continue
                for name in names:
                    found.setdefault(name.partition(".")[0], set()).add(file)
        return {
            name: files
            for name, files in found.items()
            if name != self.module and name not in sys.stdlib_module_names
        }

    @property
    def tests(self) -> Path:
        return ROOT / "tests" / "test_meta_package.py" if self.is_root else self.folder / "tests"

    @property
    def is_root(self) -> bool:
        return self.folder == ROOT

    @cached_property
    def test_requirements(self) -> list[str]:
        tool = self.pyproject["tool"]
        pytest = ROOT_TOOL["pytest"]["ini_options"]["minversion"]
        environment = tool["hatch"]["envs"]["hatch-test"]
        return [f"pytest>={pytest}", *environment.get("extra-dependencies", [])]


ROOT_TOOL = Package(ROOT).pyproject["tool"]


def workspace() -> list[Package]:
    members = (
        folder
        for pattern in ROOT_TOOL["uv"]["workspace"]["members"]
        for folder in sorted(ROOT.glob(pattern))
        if folder.is_dir()
    )
    return [Package(folder) for folder in (*members, ROOT)]


class Report:
    """Prints a line for each check, and counts the checks that pass and fail."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what: str, problems: Iterable[str]) -> bool:
        """Reports a check, which passes if `problems` is empty."""
        problems = list(problems)
        print(f"{'FAIL' if problems else 'ok  '} {what}", flush=True)
        for problem in problems:
            print("       " + problem.replace("\n", "\n       "), flush=True)
        self.failed += bool(problems)
        self.passed += not problems
        return not problems


class Environment:
    """Makes a fresh virtual environment in `folder`, where its commands run too."""

    def __init__(self, folder: Path, python: str):
        folder.mkdir()
        self.folder = folder
        self.python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        run(uv(), "venv", "--quiet", "--python", python, folder / "venv", cwd=folder)

    def install(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # The folder is outside the checkout, whose `[tool.uv.sources]` would otherwise replace the
        # wheels.
        return run(
            uv(), "pip", "install", "--quiet", "--python", self.python, *arguments,
            cwd=self.folder, check=False,
        )  # fmt: skip

    def call(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(self.python, *arguments, cwd=self.folder, check=False)


def uv() -> str:
    found = shutil.which("uv")
    if found is None:
        sys.exit("`uv` is not on the path: see requirements.txt.")
    return found


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**kept, "PYTHONDONTWRITEBYTECODE": "1"},
        check=check,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def failure(process: subprocess.CompletedProcess[str], lines: int = 30) -> Iterator[str]:
    if process.returncode:
        yield "\n".join(process.stdout.strip().splitlines()[-lines:])


def last_line(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(process.stdout.splitlines()[-1])


def build(packages: list[Package], folder: Path, report: Report) -> bool:
    process = run(
        uv(), "build", "--all-packages", "--out-dir", folder, cwd=ROOT, check=False
    )  # Builds each wheel from the unpacked sdist.
    if not report.check("workspace: sdists build, and wheels from them", failure(process)):
        return False
    expected = {
        f"{package.stem}-{package.version}{suffix}"
        for package in packages
        for suffix in (".tar.gz", "-py3-none-any.whl")
    }
    built = {file.name for file in folder.iterdir() if file.name != ".gitignore"}
    problems = [
        *(f"{name} was not built" for name in sorted(expected - built)),
        *(f"{name} was built, but no sources declare it" for name in sorted(built - expected)),
    ]
    return report.check("workspace: one sdist and one wheel of every declared version", problems)


def wheel_of(package: Package, folder: Path) -> Path:
    return folder / f"{package.stem}-{package.version}-py3-none-any.whl"


def sdist_problems(package: Package, folder: Path) -> Iterator[str]:
    top = f"{package.stem}-{package.version}"
    with tarfile.open(folder / f"{top}.tar.gz") as archive:
        names = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    entries = {name.partition("/")[0] for name in names}
    for name in sorted(entries ^ SDIST_ENTRIES):
        yield f"{name} is {'not expected' if name in entries else 'missing'} in the sdist"
    sources = {f"src/{name}" for name in package.files}
    for name in sorted({name for name in names if name.startswith("src/")} ^ sources):
        yield f"{name} is {'missing' if name in sources else 'not expected'} in the sdist"


def wheel_problems(package: Package, folder: Path) -> Iterator[str]:
    information = f"{package.stem}-{package.version}.dist-info/"
    with zipfile.ZipFile(wheel_of(package, folder)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    code = {name: data for name, data in content.items() if not name.startswith(information)}
    for name in sorted(code.keys() ^ package.files.keys()):
        yield f"{name} is {'not expected' if name in code else 'missing'} in the wheel"
    for name in sorted(code.keys() & package.files.keys()):
        if code[name] != package.files[name]:
            yield f"{name} in the wheel is not the source file"
    if f"{package.module}/py.typed" not in code:
        yield f"{package.module}/py.typed is missing in the wheel"
    for name in code:
        if not name.endswith((".py", "/py.typed")) or "test" in Path(name).stem.split("_"):
            yield f"{name} is not expected in the wheel"
    if content.get(f"{information}licenses/LICENSE") != (ROOT / "LICENSE").read_bytes():
        yield "the project's LICENSE is not in the wheel"


def metadata_problems(package: Package, packages: list[Package], folder: Path) -> Iterator[str]:
    information = f"{package.stem}-{package.version}.dist-info/"
    with zipfile.ZipFile(wheel_of(package, folder)) as archive:
        metadata = email.message_from_bytes(archive.read(f"{information}METADATA"))
    for field, expected in (("Name", package.name), ("Version", package.version)):
        if metadata[field] != expected:
            yield f"{field} is {metadata[field]!r}, the sources say {expected!r}"

    python, oldest = SpecifierSet(metadata["Requires-Python"] or ""), Package(ROOT).requires_python
    if python != SpecifierSet(oldest):
        yield f"Requires-Python is '{python}', that of the workspace '{oldest}'"

    versions = {canonicalize_name(p.name): p.version for p in packages}
    published = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    for requirement in published:
        if requirement.url:
            yield f"Requires-Dist holds a URL: '{requirement}'"
        elif not any(s.operator in (">=", "~=", "==") for s in requirement.specifier):
            yield f"Requires-Dist holds no lower bound: '{requirement}'"
        sibling = versions.get(canonicalize_name(requirement.name))
        if sibling is not None and not requirement.specifier.contains(sibling, prereleases=True):
            yield f"Requires-Dist '{requirement}' excludes the workspace's own version {sibling}"
    for requirement in set(published) ^ set(package.dependencies.values()):
        where = "the metadata" if requirement in published else "pyproject.toml"
        yield f"Requires-Dist '{requirement}' is only in {where}"


def installed_problems(
    package: Package, packages: list[Package], inventory: dict[str, Any], folder: Path
) -> Iterator[str]:
    installed = {
        canonicalize_name(name): found for name, found in inventory["distributions"].items()
    }
    if installed.get(canonicalize_name(package.name), [None])[0] != package.version:
        yield f"{package.name} {package.version} is not installed: {sorted(installed)}"
        return
    closure: set[str] = set()
    pending = [canonicalize_name(package.name)]
    while pending:
        name = pending.pop()
        if name in closure:
            continue
        closure.add(name)
        requirements = map(Requirement, installed[name][1] if name in installed else ())
        pending += [
            canonicalize_name(requirement.name)
            for requirement in requirements
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    for name in sorted(closure - installed.keys()):
        yield f"{name} is declared, by this package or by what it needs, but not installed"
    for name in sorted(installed.keys() - closure):
        yield f"{name} is installed, but declared neither by this package nor by what it needs"
    # An index may offer distributions with the same names as those of the workspace.
    for sibling in packages:
        if canonicalize_name(sibling.name) not in installed:
            continue
        site = Path(installed[canonicalize_name(sibling.name)][2])
        with zipfile.ZipFile(wheel_of(sibling, folder)) as archive:
            for name in archive.namelist():
                file = site / name
                if ".dist-info/" not in name and (
                    not file.is_file() or file.read_bytes() != archive.read(name)
                ):
                    yield f"{name} is not that of the wheel of {sibling.name} just built"


# The key is a module of another distribution than the value. The value cannot be installed without
# it, and its functions take and return objects of the module, so whoever declares it may import it.
COMES_WITH = {"numpy": "jax"}


def import_problems(package: Package, inventory: dict[str, Any]) -> Iterator[str]:
    used: set[str] = set()
    for module, files in sorted(package.imports.items()):
        found = inventory["providers"].get(module, [])
        providers = {canonicalize_name(COMES_WITH.get(name, name)) for name in found}
        used |= providers
        if not providers & package.dependencies.keys():
            yield (
                f"{', '.join(sorted(files))}: `{module}` is imported, but of no distribution that "
                f"pyproject.toml declares (it is of: {', '.join(sorted(providers)) or 'none'})"
            )
    for name in sorted(package.dependencies.keys() - used):
        yield f"{name} is declared, but nothing imports it"


def check_tests(
    tested: list[tuple[Package, Environment]],
    packages: list[Package],
    share: str | None,
    report: Report,
) -> None:
    """Runs the tests of each package in its environment, several at once on several cores."""
    ready = []
    for package, environment in tested:
        process = environment.install(*package.test_requirements)
        if report.check(f"{package.name}: test requirements install", failure(process)):
            ready.append((package, environment))
    modules = [package.module for package in packages]

    def run_tests(package: Package, environment: Environment) -> subprocess.CompletedProcess[str]:
        plugin = f"only_the_wheel_of_{package.module}"
        text = PLUGIN.format(tested=[package.module], modules=modules)
        (environment.folder / f"{plugin}.py").write_text(text)
        # Tests of sharding are left out: they do not depend on how a package is installed.
        return environment.call(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin,
            "-c", ROOT / "pyproject.toml", "--rootdir", ROOT,
            f"--ignore-glob={package.tests}/*_sharding.py",
            *([f"--share={share}"] if share else []),
            package.tests,
        )  # fmt: skip

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (package, _), process in zip(
            ready, pool.map(lambda pair: run_tests(*pair), ready), strict=True
        ):
            summary = process.stdout.strip().splitlines()[-1:] or ["no output"]
            outcome = f"tests against the wheel: {summary[0].strip('= ')}"
            report.check(f"{package.name}: {outcome}", failure(process, 60))


def check_alone(
    package: Package,
    packages: list[Package],
    wheels: Path,
    python: str,
    report: Report,
) -> Environment | None:
    """Runs all checks but the tests, and returns the environment if the package imports there."""
    name = package.name
    report.check(f"{name}: sdist holds what it should", sdist_problems(package, wheels))
    report.check(f"{name}: wheel holds what it should", wheel_problems(package, wheels))
    report.check(f"{name}: metadata of the wheel", metadata_problems(package, packages, wheels))
    environment = Environment(wheels.parent / package.stem, python)
    process = environment.install("--find-links", wheels, wheel_of(package, wheels))
    if not report.check(f"{name}: wheel installs alone", failure(process)):
        return None
    inventory = last_line(environment.call("-I", "-c", INVENTORY))
    report.check(
        f"{name}: {len(inventory['distributions'])} installed distributions are the declared ones",
        installed_problems(package, packages, inventory, wheels),
    )
    report.check(f"{name}: imports and declarations agree", import_problems(package, inventory))
    process = environment.call("-W", "error", "-I", "-c", IMPORT, package.module)
    what = f"{name}: all modules import, without a warning"
    if not report.check(what, failure(process)):
        return None
    imported = last_line(process)
    prefix = environment.python.parents[1].resolve()
    wrong = []
    if prefix not in Path(imported["file"]).resolve().parents:
        wrong.append(f"imported from {imported['file']}, which is not in the environment")
    if imported["version"] != package.version:
        wrong.append(f"`__version__` is {imported['version']}, the sources say {package.version}")
    report.check(f"{name}: imported module is the wheel's, of version {package.version}", wrong)
    return environment


def lowest_problems(
    chosen: list[Package], siblings: Collection[str], installed: Mapping[Any, list[Any]]
) -> Iterator[str]:
    """Finds declared lower bounds that are not the installed version, about which the environment
    proves nothing: other requirements, or another package's bound, ask for a higher version.
    """
    for package in chosen:
        for name, requirement in package.dependencies.items():
            # A sibling's bound is a release series, and the workspace holds one version of it.
            if name in siblings:
                continue
            bounds = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
            version = Version(installed[name][0])
            if bounds != [version]:
                yield f"{package.name} declares '{requirement}', but {version} is installed"


def check_lowest(
    chosen: list[Package],
    packages: list[Package],
    wheels: Path,
    python: str,
    skip_tests: bool,
    share: str | None,
    report: Report,
) -> None:
    siblings = {canonicalize_name(package.name): package for package in packages}
    tested = []
    for package in chosen:
        needed, pending = [], [package]
        while pending:
            needed.append(pending.pop())
            named = [siblings[name] for name in needed[-1].dependencies if name in siblings]
            pending += [sibling for sibling in named if sibling not in (*needed, *pending)]
        environment = Environment(wheels.parent / f"lowest-{package.stem}", python)
        # To uv, direct requirements are those of its command line, not those of the wheels named
        # there.
        direct = dict.fromkeys(
            str(requirement)
            for own in needed
            for name, requirement in own.dependencies.items()
            if name not in siblings
        )
        process = environment.install(
            "--find-links", wheels, "--resolution", "lowest-direct", *direct,
            *(wheel_of(own, wheels) for own in needed),
        )  # fmt: skip
        if not report.check(f"lowest: wheel of {package.name} installs", failure(process)):
            continue
        process = environment.call("-W", "error", "-I", "-c", IMPORT, package.module)
        what = f"lowest: {package.name} imports, without a warning"
        if not report.check(what, failure(process)):
            continue
        found = last_line(environment.call("-I", "-c", INVENTORY))["distributions"]
        installed = {canonicalize_name(name): details for name, details in found.items()}
        versions = ", ".join(f"{name} {details[0]}" for name, details in sorted(installed.items()))
        what = f"lowest: declared lower bounds are installed ({versions})"
        report.check(what, lowest_problems(needed, siblings, installed))
        tested.append((package, environment))
    if not skip_tests:
        check_tests(tested, packages, share, report)


def main() -> int:
    packages = workspace()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only",
        action="append",
        choices=[package.name for package in packages],
        help="check this distribution; may be given several times (default: all)",
    )
    parser.add_argument("--skip-tests", action="store_true", help="run no tests")
    parser.add_argument("--share", metavar="K/N", help="of every test, each N-th case from K on")
    parser.add_argument(
        "--lowest", action="store_true", help="check the declared lower bounds instead"
    )
    parser.add_argument(
        "--python",
        help="interpreter or version for the environments (default: this one; with --lowest the "
        "oldest that the workspace declares)",
    )
    arguments = parser.parse_args()
    chosen = [p for p in packages if arguments.only is None or p.name in arguments.only]
    report = Report()
    with tempfile.TemporaryDirectory(prefix="check-wheels-") as name:
        wheels = Path(name).resolve() / "wheels"
        if build(packages, wheels, report):
            if arguments.lowest:
                (oldest,) = SpecifierSet(Package(ROOT).requires_python)
                python = arguments.python or oldest.version
                check_lowest(
                    chosen, packages, wheels, python, arguments.skip_tests, arguments.share, report
                )
            else:
                python = arguments.python or sys.executable
                alone = [(p, check_alone(p, packages, wheels, python, report)) for p in chosen]
                tested = [(package, found) for package, found in alone if found is not None]
                if not arguments.skip_tests:
                    check_tests(tested, packages, arguments.share, report)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

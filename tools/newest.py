"""Makes an environment with the newest JAX, which needs a newer Python than the workspace does, and
runs the tests there.

The Python is the newest one found on the path, or else, on Debian and as root, that of a small
Debian system made by debootstrap, entered by chroot. Where neither is to be had, nothing is run: a
line on stderr says why, and the status is 0, or 1 with `--required`. Wherever the tests run, they
decide the status.

Checkout, environment and system are in a temporary folder, removed at the end; the benchmark can
keep them. Mounts are made in a namespace of the command that needs them, which ends with it: the
folder never holds a mount. Arguments are those of pytest, instead of all tests, and `--pre` for
pre-releases of JAX.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from check_wheels import Package, ROOT


# The Pythons for which the newest JAX has wheels.
PYTHONS = ("python3.15", "python3.14", "python3.13", "python3.12")

# What brings JAX, and what brings its pre-releases and no others: pip takes those of a project
# whose requirement names one.
RELEASES = ("jax",)
PRE_RELEASES = ("jax>=0.dev0", "jaxlib>=0.dev0")

# What concerns the solvers of the experiments and tools that maintainers run, and takes minutes, is
# left to the present JAX.
LEFT_OUT = (
    "test_benchmark.py",
    "test_experiment_solvers.py",
    "test_programs.py",
    "test_sharding_page.py",
)

# The first Debian with one of them.
RELEASE = "trixie"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")

MOUNTED = ("unshare", "--mount")
ENTER = """
set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$@"
"""

VERSIONS = """
import platform
from importlib.metadata import version
found = {name: version(name) for name in ("jax", "jaxlib", "equinox", "numpy")}
found = {"Python": platform.python_version(), **found}
print(", ".join(f"{name} {number}" for name, number in found.items()), flush=True)
"""


class CannotError(Exception):
    """This machine has no Python that is new enough, and none can be had; the text says why."""

    def __str__(self) -> str:
        return (
            f"none of {', '.join(PYTHONS)} works here, and a Debian that has one cannot be made: "
            f"{self.args[0]}"
        )


def found_python() -> str | None:
    """An interpreter on the path may be a link that leads nowhere, or lack a part."""
    for name in PYTHONS:
        command = (name, "-c", "import ensurepip, venv")
        if shutil.which(name) and subprocess.run(command, capture_output=True).returncode == 0:
            return name
    return None


def make_debian(folder: Path) -> None:
    if platform.system() != "Linux" or platform.freedesktop_os_release().get("ID") != "debian":
        raise CannotError("this is not Debian")
    if os.geteuid() != 0:
        raise CannotError("debootstrap and chroot need root")
    attempt(*MOUNTED, "true")
    if not shutil.which("debootstrap"):
        # Where a list cannot be had, that of the package may be there nevertheless.
        subprocess.run(("apt-get", "--quiet=2", "update"))
        attempt("apt-get", "install", "--yes", "--no-install-recommends", "debootstrap")
    # Where this system has its packages from; debootstrap knows a place of its own.
    listed = subprocess.run(
        ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian"),
        capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    mirror = [uri for uri in listed if uri.startswith("http")][:1]
    include = "--include=python3-venv,ca-certificates"
    attempt(*MOUNTED, "debootstrap", "--variant=minbase", include, RELEASE, str(folder), *mirror)
    for file in ("etc/resolv.conf", "etc/hosts", CERTIFICATES):
        if (outside := "/" / Path(file)).is_file():
            shutil.copyfile(outside, folder / file)


def attempt(*command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-5:])
        raise CannotError(f"`{' '.join(command[:4])} ...` failed:\n{end}")


class Place:
    """Where things run: this system, in `folder`, or the one that `folder` is the root of."""

    def __init__(self, folder: Path, *, is_root: bool):
        self.folder = folder
        self.inside = Path("/") if is_root else folder
        self.checkout = self.inside / "checkout"
        self.python = self.inside / "venv" / "bin" / "python"
        self.enter = (*MOUNTED, "sh", "-c", ENTER, "sh", str(folder)) if is_root else ()
        self.environment = dict(os.environ)
        self.environment.pop("PYTHONPATH", None)
        if is_root:
            # Which index, and how to reach it; no folders, which the system does not have.
            kept = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_PROXY",
                    "PIP_DEFAULT_TIMEOUT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")  # fmt: skip
            self.environment = {
                **{name: value for name, value in os.environ.items() if name.upper() in kept},
                "HOME": "/root",
                "LANG": "C.UTF-8",
                "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
                "PIP_CERT": str("/" / CERTIFICATES),
                "PIP_CONFIG_FILE": "/dev/null",
            }

    def copy_checkout(self) -> None:
        """The files that git knows or would add, as they are in the working tree."""
        command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        for name in sorted(set(listed.stdout.split("\0")) - {""}):
            source, target = ROOT / name, self.folder / "checkout" / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def command(self, *command: str | Path) -> tuple[str, ...]:
        """What runs a command in the checkout there, with `environment` as its variables."""
        return (*self.enter, "env", f"--chdir={self.checkout}", *map(str, command))

    def run(
        self, *command: str | Path, check: bool = True, capture: bool = False
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command), env=self.environment, check=check, text=True,
            stdout=subprocess.PIPE if capture else None,
        )  # fmt: skip

    def install(self, python: str, requirements: list[str], jax: Sequence[str]) -> None:
        """The newest JAX that pip finds by the arguments `jax`, and what else is required, in an
        environment of that Python.
        """
        self.run(python, "-m", "venv", self.inside / "venv")
        install = (self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self.run(*install, *jax)
        # The newest one, unless a package forbids it, which then fails here.
        newest = "import importlib.metadata; print('jax==' + importlib.metadata.version('jax'))"
        pin = self.run(self.python, "-c", newest, capture=True).stdout.strip()
        self.run(*install, pin, *requirements)


def package_folders() -> list[str]:
    """The packages of the workspace, as pip finds them in the checkout."""
    files = (ROOT / "packages").glob("*/pyproject.toml")
    return [f"./{file.parent.relative_to(ROOT)}" for file in sorted(files)]


def make(folder: Path, requirements: list[str], jax: Sequence[str]) -> Place:
    python = found_python()
    if python is None:
        make_debian(folder)
    place = Place(folder, is_root=python is None)
    place.copy_checkout()
    place.install(python or "python3", requirements, jax)
    return place


@contextmanager
def newest(
    requirements: list[str], kept: Path | None = None, jax: Sequence[str] = RELEASES
) -> Iterator[Place]:
    """Gives a place with this checkout, the newest JAX, and the requirements, which may be folders
    of the checkout. It is made in a temporary folder, or in the one to keep; where that exists, the
    checkout there is renewed, and nothing else.
    """
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="newest-") as name:
            yield make(Path(name).resolve(), requirements, jax)
        return
    folder = kept.resolve()
    if folder.exists():
        place = Place(folder, is_root=(folder / "usr").exists())
        shutil.rmtree(folder / "checkout", ignore_errors=True)
        place.copy_checkout()
    else:
        folder.mkdir(parents=True)
        try:
            place = make(folder, requirements, jax)
        except BaseException:
            shutil.rmtree(folder)
            raise
    yield place


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--pre", action="store_true", help="pre-releases of JAX, too")
    parser.add_argument(
        "--extra-index-url", metavar="URL",
        help="where JAX is looked for, as well as where pip looks for everything",
    )  # fmt: skip
    parser.add_argument("--share", metavar="K/N", help="of every test, each N-th case from K on")
    parser.add_argument(
        "--required", action="store_true", help="fail where no Python for the newest JAX is found"
    )
    options, chosen = parser.parse_known_args()
    jax = list(PRE_RELEASES if options.pre else RELEASES)
    if options.extra_index_url:
        jax += ["--extra-index-url", options.extra_index_url]
    root = Package(ROOT)
    settings = root.pyproject["tool"]["hatch"]["envs"]["hatch-test"]
    groups = [root.pyproject["dependency-groups"][name] for name in settings["dependency-groups"]]
    requirements = [*root.test_requirements, *chain(*groups), "pytest-xdist>=3.5"]
    try:
        with newest([*package_folders(), ".", *requirements], jax=jax) as place:
            place.run(place.python, "-c", VERSIONS)
            left_out = [f"--ignore=tests/{name}" for name in LEFT_OUT]
            tests = chosen or [*settings["default-args"], *left_out]
            share = [f"--share={options.share}"] if options.share else []
            command = (place.python, "-m", "pytest", "-n", "logical", *tests, *share)
            return place.run(*command, check=False).returncode
    except CannotError as reason:
        print(f"SKIPPED the tests on the newest JAX: {reason}", file=sys.stderr)
        return 1 if options.required else 0


if __name__ == "__main__":
    sys.exit(main())

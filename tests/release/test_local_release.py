"""Releases all packages to an index on this machine, installs them from there, and upgrades an
installation of the previous versions.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from check_wheels import Environment, ROOT, run, uv
from packaging.version import Version
from release.checkout import packages


PACKAGES = packages(ROOT)
VERSIONS = {name: package.version for name, package in PACKAGES.items()}
USERS_INSTALL = ("pdequinox-conv", "pdequinox-convert")

LAYER = """
import importlib.metadata, json, jax, pdequinox_convert
from pdequinox.conv import PhysicsConv
layer = PhysicsConv(1, 1, 1, 3, boundary_mode="periodic", key=jax.random.key(0))
result = layer(jax.numpy.ones((1, 5)))
assert jax.numpy.allclose(result, layer.weight.sum() + layer.bias, rtol=1e-5), result
print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))
"""


# An index that takes uploads and knows no other packages, at a port that the system gives.
SERVER = """
import pathlib, sys, wsgiref.simple_server
import pypiserver
app = pypiserver.app(
    roots=[pathlib.Path(sys.argv[1])], authenticate=[], password_file=".", disable_fallback=True
)
server = wsgiref.simple_server.make_server("127.0.0.1", 0, app)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def index(folder):
    """Starts an index of the files in `folder`, and gives its address."""
    folder.mkdir()
    with (
        (folder.parent / "index.log").open("w") as log,
        subprocess.Popen(
            (sys.executable, "-c", SERVER, folder), stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        port = server.stdout.readline().strip()
        assert port, Path(log.name).read_text()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def built(root, folder, versions):
    """Builds a workspace, and lists its files in the order of publication."""
    done = run(uv(), "build", "--all-packages", "--out-dir", folder, cwd=root, check=False)
    assert done.returncode == 0, done.stdout
    starts = [f"{name.replace('-', '_')}-{version}" for name, version in versions.items()]
    files = [
        folder / f"{start}{end}" for start in starts for end in (".tar.gz", "-py3-none-any.whl")
    ]
    assert {*files} == {file for file in folder.iterdir() if file.name != ".gitignore"}
    return files


def upload(files, address):
    done = run(
        sys.executable, "-m", "twine", "upload", "--non-interactive", "--disable-progress-bar",
        "--config-file", os.devnull, "--repository-url", address,
        "--username", "anyone", "--password", "any", *files, cwd=files[0].parent, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def environment(folder):
    """Makes an environment with what the packages need from the public index, so that pip can be
    left with an index that has only the packages.
    """
    made = Environment(folder, sys.executable)
    needed = {
        str(requirement)
        for package in PACKAGES.values()
        for name, requirement in package.dependencies.items()
        if name not in PACKAGES
    }
    done = made.install(*sorted(needed))
    assert done.returncode == 0, done.stdout
    return made


def pip_install(where, address, *arguments):
    """Installs from that index only; tells the version and the source of each distribution."""
    report = where.folder / "report.json"
    done = run(
        sys.executable, "-m", "pip", "--isolated", "--python", where.python, "install",
        "--quiet", "--no-cache-dir", "--report", report, "--index-url", f"{address}simple/",
        *arguments, cwd=where.folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return {
        entry["metadata"]["name"]: (entry["metadata"]["version"], entry["download_info"])
        for entry in json.loads(report.read_text())["install"]
    }


def installed(where):
    """Runs a layer, and tells the versions of the packages there."""
    done = where.call("-W", "error", "-I", "-c", LAYER)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: found[name] for name in PACKAGES if name in found}


def before(version):
    """Computes the first version of the previous series."""
    major, minor = Version(version).release[:2]
    assert (major, minor) > (0, 0)
    return f"0.{minor - 1}.0" if major == 0 else f"{major - 1}.0.0"


def lower(root):
    """Lowers the versions and ranges of a copy of the workspace by one series."""
    lowered = {name: before(version) for name, version in VERSIONS.items()}
    for name, package in packages(root).items():
        file = package.folder / package.pyproject["tool"]["hatch"]["version"]["path"]
        file.write_text(file.read_text().replace(f'"{VERSIONS[name]}"', f'"{lowered[name]}"'))
        file = package.folder / "pyproject.toml"
        text = file.read_text()
        for sibling in {*package.dependencies} & {*PACKAGES}:
            major, minor = Version(VERSIONS[sibling]).release[:2]
            end = str(major) if major else f"0.{minor}"
            range_before = f'"{sibling}>={lowered[sibling]},<{end}"'
            text, count = re.subn(rf'"{sibling}[<>=~!][^"]*"', range_before, text)
            assert count == 1
        file.write_text(text)
    return lowered


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """Leaves out those of this machine, which can name other indexes to pip and twine."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in [name for name in os.environ if name.startswith("TWINE_")]:
        monkeypatch.delenv(name)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return built(ROOT, tmp_path_factory.mktemp("dist"), VERSIONS)


def test_an_install_takes_every_package_from_the_index(files, tmp_path):
    with index(tmp_path / "index") as address:
        upload(files, address)
        where = environment(tmp_path / "fresh")
        found = pip_install(where, address, *USERS_INSTALL)
    assert {name: version for name, (version, _) in found.items()} == VERSIONS
    hashes = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    for _, source in found.values():
        assert source["url"].startswith(address)
        assert source["archive_info"]["hashes"]["sha256"] in hashes
    assert installed(where) == VERSIONS


def test_an_upgrade_brings_every_package(files, checkout, tmp_path):
    lowered = lower(checkout)
    with index(tmp_path / "index") as address:
        upload(built(checkout, tmp_path / "dist-before", lowered), address)
        where = environment(tmp_path / "upgraded")
        pip_install(where, address, *USERS_INSTALL)
        assert installed(where) == lowered
        upload(files, address)
        pip_install(where, address, "--upgrade", *USERS_INSTALL)
    assert installed(where) == VERSIONS


def test_the_same_sources_give_the_same_files(files, checkout, tmp_path):
    """Wherever they lie, and whatever the times of their files are."""
    command = (uv(), "build", "--package", "pdequinox-operators", "--out-dir", tmp_path / "dist")
    assert run(*command, cwd=checkout).returncode == 0
    own = [file for file in files if file.name.startswith("pdequinox_operators-")]
    assert len(own) == 2
    for file in own:
        assert file.read_bytes() == (tmp_path / "dist" / file.name).read_bytes()

"""Runs `release:check` on small workspaces with tags of their own: it gives the order of
publication, and names every fault with what to do.
"""

import subprocess

import pytest
from release.check import check
from release.checkout import packages
from release.record import answer, FILE, written


PYPROJECT = """\
[build-system]
requires = ["hatchling"]

[project]
name = "pdequinox-{name}"
dependencies = [{dependencies}]
dynamic = ["version"]

[tool.hatch.version]
path = "src/pdequinox_{name}/__init__.py"

[tool.hatch.build.targets.wheel]
packages = ["src/pdequinox_{name}"]

[tool.hatch.envs.some]
dependencies = ["pytest"]
"""
WORKSPACE = """
[tool.uv.workspace]
members = ["packages/*"]
"""


class Workspace:
    """Has three packages: "low"; "high", which needs it; and "top" at the root, which needs both.
    Each defines `f(x, y=0)`.
    """

    def __init__(self, root):
        self.root = root
        self.git("init", "--quiet")
        for key, value in (
            ("user.name", "T"),
            ("user.email", "t@example.org"),
            ("tag.gpgSign", "0"),
        ):
            self.git("config", key, value)
        for name, needs in (("low", ()), ("high", ("low",)), ("top", ("high", "low"))):
            dependencies = ", ".join(f'"pdequinox-{n}>=0.1,<0.2"' for n in needs)
            text = PYPROJECT.format(name=name, dependencies=dependencies)
            self.write(name, "pyproject.toml", text + (WORKSPACE if name == "top" else ""))
            self.write(name, "CHANGELOG.md", "# Changelog\n\n## 0.1.0\n\n- The first.\n")
            self.code(name, "def f(x, y=0): ...")
        self.write("low", "src/pdequinox_low/_part.py", "")
        self.record()

    def file(self, name, path):
        return (self.root if name == "top" else self.root / "packages" / name) / path

    def write(self, name, path, text):
        file = self.file(name, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def replace(self, name, path, before, after):
        text = self.file(name, path).read_text()
        assert before in text
        self.write(name, path, text.replace(before, after))

    def code(self, name, text, version="0.1.0"):
        path = f"src/pdequinox_{name}/__init__.py"
        self.write(name, path, f'{text}\n\n\n__version__ = "{version}"\n')

    def raised(self, name, version, text="def f(x, y=0): ..."):
        """Raises a version, with new code and a section in the changelog."""
        self.code(name, text, version)
        path = "CHANGELOG.md"
        self.replace(name, path, "# Changelog\n", f"# Changelog\n\n## {version}\n\n- More.\n")

    def record(self):
        (self.root / FILE).parent.mkdir(parents=True, exist_ok=True)
        (self.root / FILE).write_text(written(answer(self.root, {})["surfaces"]))

    def git(self, *arguments):
        subprocess.run(("git", *arguments), cwd=self.root, check=True)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A change")

    def release(self):
        self.commit()
        for name, package in packages(self.root).items():
            tags = subprocess.check_output(("git", "tag"), cwd=self.root, text=True).split()
            if (tag := f"{name}-v{package.version}") not in tags:
                self.git("tag", tag)


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Makes a workspace of which nothing was released."""
    # No settings of the machine, such as those that sign commits.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    workspace = Workspace(tmp_path)
    workspace.commit()
    return workspace


@pytest.fixture
def released(new):
    new.release()
    return new


def said(workspace, capsys, tag=None):
    """Tells whether everything is ready, and what was printed."""
    capsys.readouterr()
    ready = check(workspace.root, tag)
    return ready, capsys.readouterr().out


def to_publish(output):
    return [line.removeprefix("  git tag ") for line in output.splitlines() if "  git tag " in line]


def test_a_first_release_is_of_all_packages_each_after_those_it_needs(new, capsys):
    ready, output = said(new, capsys)
    assert ready and output.count("never released") == 3
    names = ("low", "high", "top")
    assert to_publish(output) == [f"pdequinox-{name}-v0.1.0" for name in names]


def test_after_a_release_nothing_is_left(released, capsys):
    # What is not shipped does not count: tests, settings of tools.
    released.write("low", "tests/test_low.py", "")
    released.replace("top", "pyproject.toml", '["pytest"]', '["pytest>=8"]')
    released.commit()
    ready, output = said(released, capsys)
    assert ready and "Nothing to publish." in output and not to_publish(output)
    assert output.count("unchanged since pdequinox-") == 3


def test_what_is_raised_is_published_and_nothing_else(released, capsys):
    released.raised("low", "0.1.1", "def f(x, y=0, z=0): ...")
    released.raised("top", "0.2.0", "from pdequinox_low import _part, f")
    released.record()
    ready, output = said(released, capsys)
    assert ready, output
    assert to_publish(output) == ["pdequinox-low-v0.1.1", "pdequinox-top-v0.2.0"]


def code(workspace):
    workspace.code("low", "def f(x, y=0, z=0): ...")


def untracked(workspace):
    workspace.write("low", "src/pdequinox_low/_new.py", "")


def dependency(workspace):
    workspace.replace("low", "pyproject.toml", "dependencies = []", 'dependencies = ["numpy"]')


def below(workspace):
    workspace.raised("low", "0.0.9")


def unusual(workspace):
    workspace.raised("low", "0.2")
    workspace.replace("low", "src/pdequinox_low/__init__.py", '"0.2"', '"0.2.0-rc1"')


def no_section(workspace):
    workspace.code("low", "def f(x, y=0, z=0): ...", "0.1.1")


def no_version(workspace):
    workspace.raised("low", "0.1.1")
    workspace.code("low", "def f(x, y=0): ...", "0.1.0")


def empty_section(workspace):
    workspace.raised("low", "0.1.1")
    workspace.replace("low", "CHANGELOG.md", "- More.\n", "")


def released_section(workspace):
    workspace.replace("low", "CHANGELOG.md", "- The first.", "- The first.\n- And more.")


def excluded(workspace):
    workspace.raised("low", "0.2.0")


def low_start(workspace):
    workspace.raised("low", "0.2.0")
    for name in ("high", "top"):
        workspace.replace(name, "pyproject.toml", "low>=0.1,<0.2", "low>=0.1,<0.3")


def no_start(workspace):
    for name in ("high", "top"):
        workspace.replace(name, "pyproject.toml", "low>=0.1,<0.2", "low<0.2")


def new_name(workspace):
    workspace.raised("low", "0.1.1", "def f(x, y=0): ...\ndef g(): ...")
    workspace.raised("high", "0.1.1", "from pdequinox_low import f, g\ndef h(): ...")


def two_ranges(workspace):
    workspace.replace("high", "pyproject.toml", "low>=0.1,<0.2", "low>=0.1.0,<0.2")


def not_recorded(workspace):
    workspace.raised("low", "0.1.1", "def f(x, y=0): ...\ndef g(): ...")


def removed(workspace):
    workspace.raised("low", "0.2.0", "")


def renamed(workspace):
    workspace.raised("low", "0.2.0", "def f(x, z=0): ...")


@pytest.mark.parametrize(
    "fault, message",
    [
        (code, "changed since pdequinox-low-v0.1.0 (packages/low/src/pdequinox_low/__init__.py)"),
        (code, "raise it, in packages/low/src/pdequinox_low/__init__.py"),
        (untracked, "changed since pdequinox-low-v0.1.0 (packages/low/src/pdequinox_low/_new.py)"),
        (dependency, "changed since pdequinox-low-v0.1.0 (packages/low/pyproject.toml)"),
        (below, "the version is below that of pdequinox-low-v0.1.0"),
        (unusual, "`__version__` is '0.2.0-rc1': write it as '0.2.0rc1'"),
        (no_section, "begins with 0.1.0, and the version is 0.1.1: raise the version, or add"),
        (no_version, "begins with 0.1.1, and the version is 0.1.0: raise the version, or add"),
        (empty_section, "the section 0.1.1 of CHANGELOG.md is empty"),
        (released_section, "the section 0.1.0 of CHANGELOG.md is not that of pdequinox-low-v0.1.0"),
        (excluded, "'pdequinox-low<0.2,>=0.1' excludes 0.2.0"),
        (low_start, "admits versions that 0.2.0 is not compatible with"),
        (no_start, "admits versions that 0.1.0 is not compatible with"),
        (new_name, "admits pdequinox-low-v0.1.0, which has no pdequinox_low.g:"),
        (two_ranges, "pdequinox-low has several ranges"),
        (not_recorded, "does not have the public names of 0.1.1: `hatch run release:record`"),
        (removed, "pdequinox_low.f is gone, though pdequinox-low-v0.1.0 did not call it depre"),
        (renamed, "pdequinox_low.f: got an unexpected keyword argument 'y', though"),
    ],
)
def test_a_fault_is_named(released, capsys, fault, message):
    fault(released)
    ready, output = said(released, capsys)
    assert not ready and not to_publish(output)
    assert message in output


def test_a_range_may_begin_at_a_patch_that_has_the_name(released, capsys):
    new_name(released)
    released.raised("top", "0.1.1")
    for name in ("high", "top"):
        released.replace(name, "pyproject.toml", "low>=0.1,<0.2", "low>=0.1.1,<0.2")
    released.record()
    ready, output = said(released, capsys)
    assert ready, output


DEPRECATED = '''
import warnings

def f(x, z=0, y=None):
    """Does something.

    - `y`: The name of `z` before; deprecated.
    """

def __getattr__(name):
    if name == "g":
        warnings.warn("`g` is called `f`.", DeprecationWarning, stacklevel=2)
        return f
    raise AttributeError(name)
'''


def test_what_a_release_called_deprecated_may_go(released, capsys):
    released.raised("low", "0.1.1", "def f(x, *, y=0): ...\ndef g(x): ...")
    released.record()
    released.release()
    released.raised("low", "0.1.2", DEPRECATED)
    released.record()
    recorded = (released.root / FILE).read_text()
    assert '"pdequinox_low.f(y)"' in recorded and '"pdequinox_low.g"' in recorded
    ready, output = said(released, capsys)
    assert ready, output
    # Not before that is released.
    released.code("low", "def f(x, z=0): ...", "0.1.2")
    released.record()
    ready, output = said(released, capsys)
    assert not ready
    assert "pdequinox_low.g is gone" in output
    assert "pdequinox_low.f: got an unexpected keyword argument 'y'" in output
    released.code("low", DEPRECATED, "0.1.2")
    released.record()
    released.release()
    released.raised("low", "0.1.3", "def f(x, z=0): ...")
    released.record()
    ready, output = said(released, capsys)
    assert ready and to_publish(output) == ["pdequinox-low-v0.1.3"]


def test_a_tag_releases_what_it_names(new, capsys):
    new.git("tag", "pdequinox-low-v0.1.0")
    assert said(new, capsys, "pdequinox-low-v0.1.0")[0]
    # What it needs is released.
    new.git("tag", "pdequinox-high-v0.1.0")
    assert said(new, capsys, "pdequinox-high-v0.1.0")[0]
    # What the others have yet to do does not matter.
    new.raised("low", "0.1.1")
    new.commit()
    new.raised("high", "0.1.1")
    new.record()
    new.commit()
    new.git("tag", "pdequinox-high-v0.1.1")
    assert said(new, capsys, "pdequinox-high-v0.1.1")[0]


@pytest.mark.parametrize(
    "tag, message",
    [
        ("pdequinox-low-v0.2.0", "the version is 0.1.0, whose tag is pdequinox-low-v0.1.0"),
        ("pdequinox-high-v0.1.0", "no tag of pdequinox-low is in the range"),
        ("pdequinox-none-v0.1.0", "must be one of pdequinox-high-v..., pdequinox-low-v..., "),
        ("v0.1.0", "got 'v0.1.0'"),
    ],
)
def test_a_tag_that_releases_something_else_is_refused(new, capsys, tag, message):
    new.git("tag", tag)
    ready, output = said(new, capsys, tag)
    assert not ready and message in output


@pytest.mark.parametrize(
    "fault, tag, message",
    [
        (no_section, "pdequinox-low-v0.1.1", "begins with 0.1.0"),
        (not_recorded, "pdequinox-low-v0.1.1", "does not have the public names of 0.1.1"),
        (removed, "pdequinox-low-v0.2.0", "is gone, though pdequinox-low-v0.1.0 did not"),
    ],
)
def test_a_tag_is_compared_with_the_release_before_it(released, capsys, fault, tag, message):
    fault(released)
    released.commit()
    released.git("tag", tag)
    ready, output = said(released, capsys, tag)
    assert not ready and message in output


def test_a_tag_is_refused_elsewhere_than_at_its_commit(new, capsys):
    tag = "pdequinox-low-v0.1.0"
    message = f"the present commit is not that of {tag}"
    assert message in said(new, capsys, tag)[1]
    new.git("tag", tag)
    new.write("low", "NEW.md", "")
    ready, output = said(new, capsys, tag)
    assert not ready and "files are not as in the commit:\n       ?? packages/low/NEW.md" in output
    new.commit()
    ready, output = said(new, capsys, tag)
    assert not ready and message in output

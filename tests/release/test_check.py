"""Runs `release:check` on small workspaces with tags of their own: it gives the order of
publication, and names every fault with what to do.
"""

import os
import subprocess
import sys

import pytest
from release.check import check, main
from release.checkout import packages
from release.record import answer, FILE, written


PYPROJECT = """\
[build-system]
requires = ["hatchling"]

[project]
name = "pdequinox-{name}"
dependencies = [{dependencies}]
dynamic = ["version"]

[project.urls]
Source = "https://example.org"

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
            self.write(name, "README.md", f"# pdequinox-{name}\n")
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
        return subprocess.check_output(("git", *arguments), cwd=self.root, text=True)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A change")

    def release(self):
        self.commit()
        for name, package in packages(self.root).items():
            if (tag := f"{name}-v{package.version}") not in self.git("tag").split():
                self.git("tag", tag)


@pytest.fixture
def elsewhere(tmp_path_factory, monkeypatch):
    """Makes an empty repository that git uses in place of those of the folders, as in a hook."""
    other = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(("git", "init", "--quiet", other), check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    return other


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Makes a workspace of which nothing was released."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    # No settings of the machine, such as those that sign commits.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
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


def test_other_repositories_are_left_alone(elsewhere, released):
    assert released.git("tag").split()
    assert not subprocess.check_output(("git", "for-each-ref"), cwd=elsewhere)


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


def readme(workspace):
    workspace.write("low", "README.md", "# pdequinox-low, explained\n")


def licence(workspace):
    workspace.write("top", "LICENSE", "Any use is allowed.\n")


def no_number(workspace):
    workspace.git("tag", "pdequinox-low-vnext")


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


def new_argument(workspace):
    workspace.raised("low", "0.1.1", "def f(x, y=0, z=0): ...")
    text = "from pdequinox_low import f as g\ndef f(x, y=0): return g(x, z=y)"
    workspace.raised("high", "0.1.1", text)


def new_argument_by_place(workspace):
    workspace.raised("low", "0.1.1", "def f(x, y=0, z=0): ...")
    text = "import pdequinox_low._part\ndef f(x, y=0): return pdequinox_low.f(x, y, 0)"
    workspace.raised("high", "0.1.1", text)


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
        (readme, "changed since pdequinox-low-v0.1.0 (packages/low/README.md)"),
        (licence, "changed since pdequinox-top-v0.1.0 (LICENSE)"),
        (dependency, "changed since pdequinox-low-v0.1.0 (packages/low/pyproject.toml)"),
        (no_number, "tag pdequinox-low-vnext has no version after `-v`"),
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
        (new_argument, "f as src/pdequinox_high/__init__.py:2 calls it (got an unexpected keyword"),
        (new_argument_by_place, "__init__.py:2 calls it (too many positional arguments)"),
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


@pytest.mark.parametrize("fault", [new_name, new_argument, new_argument_by_place])
def test_a_range_may_begin_at_a_patch_that_has_what_is_used(released, capsys, fault):
    fault(released)
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


def test_what_a_release_called_deprecated_may_go_with_the_second_number(released, capsys):
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
    (released.root / FILE).write_text(recorded)
    released.release()
    # The ranges of packages that use it admit 0.1.3, and not 0.2.0.
    released.raised("low", "0.1.3", "def f(x, z=0): ...")
    released.record()
    ready, output = said(released, capsys)
    assert not ready
    unlike = "unlike in pdequinox-low-v0.1.2: that raises the second number"
    assert f"pdequinox_low.g is gone, {unlike}" in output
    assert f"pdequinox_low.f: got an unexpected keyword argument 'y', {unlike}" in output
    released.replace("low", "CHANGELOG.md", "## 0.1.3", "## 0.2.0")
    released.code("low", "def f(x, z=0): ...", "0.2.0")
    for name in ("high", "top"):
        released.replace(name, "pyproject.toml", "low>=0.1,<0.2", "low>=0.2,<0.3")
        released.raised(name, "0.1.1")
    released.record()
    ready, output = said(released, capsys)
    assert ready, output
    tags = ("low-v0.2.0", "high-v0.1.1", "top-v0.1.1")
    assert to_publish(output) == [f"pdequinox-{tag}" for tag in tags]


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


def shallow(workspace):
    """Makes a clone without the history, and so without earlier tags."""
    workspace.git("tag", "pdequinox-low-v0.1.0")
    workspace.raised("low", "0.1.1")
    workspace.record()
    workspace.commit()
    workspace.git("tag", "pdequinox-low-v0.1.1")
    clone = workspace.root.with_name("clone")
    workspace.git("clone", "--quiet", "--depth", "1", workspace.root.as_uri(), str(clone))
    workspace.root = clone


def without_urls(workspace):
    urls = '\n[project.urls]\nSource = "https://example.org"\n'
    workspace.replace("low", "pyproject.toml", urls, "")
    workspace.commit()
    workspace.git("tag", "pdequinox-low-v0.1.0")


@pytest.mark.parametrize(
    "obstacle, tag, message",
    [
        (shallow, "pdequinox-low-v0.1.1", "`git fetch --unshallow --tags`"),
        (without_urls, "pdequinox-low-v0.1.0", "`[project.urls]` is missing"),
    ],
)
def test_a_commit_may_have_what_keeps_a_tag_from_being_released(
    new, capsys, obstacle, tag, message
):
    obstacle(new)
    ready, output = said(new, capsys)
    assert ready and message in output
    ready, output = said(new, capsys, tag)
    assert not ready and message in output


def test_a_repository_without_tags_is_told_of(new, capsys):
    message = "the repository has no tag"
    assert message in said(new, capsys)[1]
    new.git("tag", "pdequinox-low-v0.1.0")
    assert message not in said(new, capsys)[1]


def test_a_package_that_cannot_be_imported_is_told_in_one_line(new, capsys, monkeypatch):
    new.code("low", "import nothing_of_this_name")
    monkeypatch.setattr("release.check.ROOT", new.root)
    monkeypatch.setattr(sys, "argv", ["check"])
    capsys.readouterr()
    assert main() == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("FAIL the packages of ")
    assert line.endswith("ModuleNotFoundError: No module named 'nothing_of_this_name'")

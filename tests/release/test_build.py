"""Checks that `release:build` makes the files of a release, and none if one of its checks fails."""

import sys

from check_wheels import Package, ROOT, run


def build(checkout, *arguments):
    """Builds with the copy's own tools, whose root is that copy."""
    program = f"import sys; sys.path.insert(0, {str(checkout / 'tools')!r}); sys.argv[0] = 'build'"
    program += "; from release.build import main; sys.exit(main())"
    return run(sys.executable, "-c", program, *arguments, cwd=checkout, check=False)


def test_the_files_of_one_package_replace_those_before(checkout):
    dist = checkout / "dist"
    dist.mkdir()
    (dist / "pdequinox_operators-0.0.1.tar.gz").touch()
    done = build(checkout, "pdequinox-operators")
    assert done.returncode == 0, done.stdout
    version = Package(ROOT / "packages" / "operators").version
    assert sorted(file.name for file in dist.iterdir()) == [
        f"pdequinox_operators-{version}-py3-none-any.whl",
        f"pdequinox_operators-{version}.tar.gz",
    ]


def test_what_an_index_or_a_user_would_not_accept_is_not_built(checkout):
    file = checkout / "packages" / "operators" / "pyproject.toml"
    text = file.read_text()
    # Twine misses the description; `tests` is a name that any other package could install.
    text = text.replace('readme = "README.md"\n', "")
    text = text.replace('packages = ["src/pdequinox_operators"]', 'packages = ["src/*"]')
    file.write_text(text)
    tests = checkout / "packages" / "operators" / "src" / "tests"
    tests.mkdir()
    (tests / "__init__.py").touch()
    done = build(checkout, "pdequinox-operators")
    assert done.returncode == 1
    assert "FAIL pdequinox-operators: twine\n" in done.stdout
    assert "FAIL pdequinox-operators: check_wheel_contents\n" in done.stdout
    assert not (checkout / "dist").exists()


def test_a_package_that_is_none_is_refused(checkout):
    done = build(checkout, "pdequinox-nothing")
    assert done.returncode == 2
    assert "PACKAGE must be one of pdequinox-convert, " in done.stdout
    assert "got 'pdequinox-nothing'" in done.stdout

"""What the readmes and the pages of the site show is what the project gives."""

import re
import shlex
from pathlib import Path

import jax
import pytest


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]
PAGES = [*READMES, *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def name(page):
    return str(page.relative_to(ROOT))


def examples(page):
    """Finds the blocks of Python that need no other library and are not a program by itself, which
    other tests run in their environments.
    """
    text = page.read_text(encoding="utf-8")
    elsewhere = re.findall(r"^<!-- run with \w+ -->\n```python\n(.*?)^```", text, re.M | re.S)
    found = blocks(text, "python")
    return [block for block in found if block not in elsewhere and "--8<--" not in block]


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=name)
def test_python_examples_run(page):
    for example in examples(page):
        # Optax needs JAX's default.
        with jax.numpy_dtype_promotion("standard" if "import optax" in example else "strict"):
            exec(compile(example, str(page), "exec"), {})


def test_examples_elsewhere_need_a_library_whose_tests_run_them():
    named = {n for page in PAGES for n in re.findall(r"<!-- run with (\w+) -->", page.read_text())}
    assert named <= {"neuraloperator", "pdequinox", "torch"}


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_readmes_have_an_example(readme):
    assert examples(readme)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_ci_runs_the_command_of_the_readme():
    (command,) = (b.strip() for b in blocks(README, "bash") if "hatch test" in b)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_commands_name_environments_and_scripts_that_exist():
    import tomllib

    environments = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]
    paths = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run"]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    commands = {c for text in texts for c in re.findall(r"hatch run ([\w-]+:[\w-]+)", text)}
    assert commands
    for command in commands:
        environment, script = shlex.split(command)[0].split(":")
        assert script in environments[environment]["scripts"], command
    # hatch's own environments run what `hatch check` and `hatch test` do.
    scripts = {
        f"{name}:{script}"
        for name, environment in environments.items()
        if not name.startswith("hatch-")
        for script in environment.get("scripts", ())
    }
    table = set(re.findall(r"hatch run ([\w-]+:[\w-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert scripts <= table

"""What the readmes show is what the project gives."""

import re
import shlex
from pathlib import Path

import jax
import pytest


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_python_examples_run(readme):
    text = readme.read_text(encoding="utf-8")
    examples = blocks(text, "python")
    assert examples
    # What needs another library is run by the tests in its environment.
    elsewhere = re.findall(r"^<!-- run with \w+ -->\n```python\n(.*?)^```", text, re.M | re.S)
    for example in examples:
        if example in elsewhere:
            continue
        # Optax needs JAX's default.
        with jax.numpy_dtype_promotion("standard" if "import optax" in example else "strict"):
            exec(compile(example, str(readme), "exec"), {})


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_links_lead_somewhere(readme):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme.read_text(encoding="utf-8")):
        assert (readme.parent / target).exists(), target


def test_ci_runs_the_command_of_the_readme():
    (command,) = (b.strip() for b in blocks(README, "bash") if "hatch test" in b)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_commands_name_environments_and_scripts_that_exist():
    import tomllib

    environments = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]
    texts = [README, *((ROOT / name).read_text() for name in ("CONTRIBUTING.md", ".ci/run"))]
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

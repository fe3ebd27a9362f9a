"""The files of the forge run the project's own commands and say what the project says."""

import fnmatch
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]
FOLDERS = [ROOT, *sorted(file.parent for file in ROOT.glob("packages/*/pyproject.toml"))]
MATRIX = "${{ matrix.commands }}"


def load(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


WORKFLOWS = {file.name: load(file) for file in sorted(ROOT.glob(".github/workflows/*.yml"))}
SET_UP = load(".github/actions/set-up/action.yml")


def commands(workflow):
    """Every line that the steps of a workflow run; in place of an expression, its matrix's."""
    found = []
    for job in workflow["jobs"].values():
        for step in job.get("steps", ()):
            text = step.get("run", "")
            if text == MATRIX:
                rows = job["strategy"]["matrix"]["include"]
                text = "\n".join(row["commands"].strip() for row in rows)
            found += text.splitlines()
    return found


def version_of(folder):
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    source = (folder / project["tool"]["hatch"]["version"]["path"]).read_text()
    return project["project"]["name"], re.search(r'^__version__ = "(.+)"$', source, re.M)[1]


def is_of_the_project(command):
    if re.search(r"[;&|<>()`]", command):
        return False
    words = shlex.split(command)
    if words[:2] == ["hatch", "run"]:
        environment, _, script = words[2].partition(":")
        return script in ENVIRONMENTS.get(environment, {}).get("scripts", ())
    return words[:2] in (["hatch", "test"], ["hatch", "check"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_run_commands_of_the_project(name):
    for command in commands(WORKFLOWS[name]):
        assert is_of_the_project(command), command
    assert [step["run"] for step in SET_UP["runs"]["steps"] if "run" in step] == [
        "pip install -r requirements.txt"
    ]


def test_the_forge_runs_what_ci_runs():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    wanted = {found[1] for line in lines if (found := re.search(r"(hatch (?!\$)[^)]+)\)?$", line))}
    # The forge has a machine for each, and runs all cases.
    wanted = {re.sub(r" --share \d/\d", "", command) for command in wanted}
    assert len(wanted) > 10
    run = {*commands(WORKFLOWS["test.yml"]), *commands(WORKFLOWS["docs.yml"])}
    # The forge has a Python for the newest JAX; another machine may have none.
    assert wanted <= {command.replace(" --required", "") for command in run}


def test_the_forge_does_not_skip_the_newest_jax():
    found = [c for workflow in WORKFLOWS.values() for c in commands(workflow)]
    newest = [command.split() for command in found if "packages:newest" in command]
    assert newest and all("--required" in command for command in newest)
    # Without a Python for it, in a process of its own, because `main` handles a signal.
    script = """
import sys
import newest
def cannot(folder):
    raise newest.CannotError("none")
newest.found_python, newest.make_debian = lambda: None, cannot
sys.exit(newest.main())
"""
    for options, status in ((["--required"], 1), ([], 0)):
        done = subprocess.run(
            (sys.executable, "-c", script, *options), cwd=ROOT / "tools",
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.stderr.startswith("SKIPPED") and done.returncode == status


def test_every_action_is_pinned():
    jobs = [job for workflow in WORKFLOWS.values() for job in workflow["jobs"].values()]
    steps = [step for job in jobs for step in job.get("steps", ())] + SET_UP["runs"]["steps"]
    used = [step["uses"] for step in steps if "uses" in step]
    for action in used:
        assert action.startswith("./") or re.fullmatch(r"[\w/.-]+@[0-9a-f]{40}", action), action
    # One commit of each.
    assert len(set(used)) == len({action.partition("@")[0] for action in used})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_release_begins_with_the_tag_of_the_package(folder):
    name, version = version_of(folder)
    tag = f"{name}-v{version}"
    # In YAML 1.1, `on` is true.
    patterns = WORKFLOWS["release.yml"][True]["push"]["tags"]
    assert any(fnmatch.fnmatchcase(tag, pattern) for pattern in patterns)
    # The argument of release:build, as the shell of the workflow makes it of the tag.
    (build,) = (c for c in commands(WORKFLOWS["release.yml"]) if "release:build" in c)
    shell = ("bash", "-c", f"printf %s {build.split()[-1]}")
    made = subprocess.run(shell, env={"GITHUB_REF_NAME": tag}, capture_output=True, text=True)
    assert made.stdout == name


def test_citation_says_what_the_project_says():
    citation, (name, version) = load("CITATION.cff"), version_of(ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["title"] == name
    assert citation["version"] == version
    assert citation["license"] == project["license"]
    assert citation["abstract"] == project["description"]
    assert citation["keywords"] == project["keywords"]
    assert citation["authors"][0]["name"] in (ROOT / "LICENSE").read_text()


def test_every_issue_form_is_checked():
    words = " ".join(ENVIRONMENTS["forge"]["scripts"]["lint"]).split()
    forms = [str(file.relative_to(ROOT)) for file in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")]
    assert forms and {*forms} <= {*words}


def test_the_command_of_the_bug_form_prints_the_versions():
    (field,) = (f for f in load(".github/ISSUE_TEMPLATE/bug.yml")["body"] if f["id"] == "versions")
    (command,) = re.findall(r"^python .*$", field["attributes"]["description"], re.MULTILINE)
    # As a shell hands it over.
    done = subprocess.run(
        (sys.executable, *shlex.split(command)[1:]), capture_output=True, text=True, check=True
    )
    printed = done.stdout.splitlines()
    for folder in FOLDERS:
        name, _ = version_of(folder)
        # An environment may be older than the version.
        assert f"{name} {metadata.version(name)}" in printed
    assert {"jax", "jaxlib", "equinox"} <= {line.split()[0] for line in printed}


def test_hooks_have_the_pinned_hatch():
    hooks = [hook for repo in load(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [hook["additional_dependencies"] for hook in hooks] == [pins]

"""Says for every package whether it is ready to be released, and what to publish in which order.

With `--tag`, it says whether this tag can be released from the present commit.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from check_wheels import Package, Report, ROOT
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from release.checkout import (
    at,
    changed,
    git,
    is_shallow,
    missing_names,
    packages,
    refused_calls,
    sections,
    tag_names,
    tag_of,
    version_of,
)
from release.record import Answer, answer, FILE, read
from release.surface import Surface


@dataclass(frozen=True)
class State:
    """Holds a package and its previous release: the last one in the history of the present commit,
    except for `skipped`, the tag that is being released.
    """

    root: Path
    package: Package
    skipped: str | None = None

    @property
    def version(self) -> Version:
        return Version(self.package.version)

    @cached_property
    def tag_names(self) -> list[str]:
        return tag_names(self.root, self.package)

    @cached_property
    def tags(self) -> dict[Version, str]:
        found = {version_of(self.package, name): name for name in self.tag_names}
        return {version: name for version, name in found.items() if version is not None}

    @cached_property
    def released(self) -> Version | None:
        return max((v for v, tag in self.tags.items() if tag != self.skipped), default=None)

    @property
    def tag(self) -> str | None:
        return None if self.released is None else self.tags[self.released]

    @cached_property
    def changed(self) -> list[str]:
        return [] if self.tag is None else changed(self.root, self.package, self.tag)

    @property
    def is_pending(self) -> bool:
        return self.released is None or self.version > self.released

    def __str__(self) -> str:
        text = f"{self.package.name} {self.package.version}: "
        if self.tag is None:
            return text + "never released"
        count = len(self.changed)
        files = f"{count} changed file{'s' * (count > 1)}" if count else "unchanged"
        return text + f"{files} since {self.tag}"


def version_problems(state: State) -> Iterator[str]:
    path = state.package.folder / state.package.pyproject["tool"]["hatch"]["version"]["path"]
    file = path.relative_to(state.root)
    for name in state.tag_names:
        if version_of(state.package, name) is None:
            yield f"tag {name} has no version after `-v`: delete it"
    if str(state.version) != state.package.version:
        yield f"`__version__` is {state.package.version!r}: write it as {str(state.version)!r}"
    if state.released is None:
        return
    if state.version < state.released:
        yield f"the version is below that of {state.tag}: raise it, in {file}"
    elif state.changed and not state.is_pending:
        files = ", ".join(state.changed[:3]) + (", ..." if state.changed[3:] else "")
        yield (
            f"changed since {state.tag} ({files}), at the same version: raise it, in {file}, and "
            "say in CHANGELOG.md what changed"
        )


def changelog_problems(state: State) -> Iterator[str]:
    file, version = state.package.folder / "CHANGELOG.md", state.package.version
    own = sections(file.read_text(encoding="utf-8"))
    first = next(iter(own), None)
    if first != version:
        yield (
            f"CHANGELOG.md begins with {first}, and the version is {version}: raise the version, "
            "or add a section"
        )
    elif not own[version]:
        yield f"the section {version} of CHANGELOG.md is empty: say what changed"
    if state.tag is not None:
        before = sections(at(state.root, state.tag, file) or "").get(str(state.released))
        if before is not None and own.get(str(state.released)) != before:
            yield (
                f"the section {state.released} of CHANGELOG.md is not that of {state.tag}, which "
                "released it: leave it as it was, and say what is new under a version of its own"
            )


def series(version: Version) -> tuple[int, ...]:
    """Gives the part of a version that compatible versions share."""
    return (version.major,) if version.major else (0, version.minor)


def lowest(specifier: SpecifierSet) -> Version | None:
    bounds = [Version(s.version) for s in specifier if s.operator in (">=", "~=", "==")]
    return max(bounds, default=None)


def range_problems(state: State, states: dict[str, State]) -> Iterator[str]:
    for name, requirement in state.package.dependencies.items():
        if name not in states:
            continue
        sibling, specifier = states[name], requirement.specifier
        text, version = f"'{requirement}'", sibling.version
        if not specifier.contains(version, prereleases=True):
            yield f"{text} excludes {version}, the version of {name} here: change the range"
            continue
        bound = lowest(specifier)
        if bound is None or series(bound) != series(version):
            yield f"{text} admits versions that {version} is not compatible with: raise its start"
            continue
        # The oldest release that a user can have in place of the present sibling.
        oldest = min((v for v in sibling.tags if v in specifier), default=None)
        if oldest is not None and oldest < version:
            tag = sibling.tags[oldest]
            for lacking in missing_names(state.root, state.package, sibling.package, tag):
                yield f"{text} admits {tag}, which has no {lacking}: raise the start of the range"
            callables = surface_at(state.root, tag, name)["callables"]
            for refused in refused_calls(state.package, callables):
                yield f"{text} admits {tag}, which refuses {refused}: raise the start of the range"


def surface_at(root: Path, tag: str, name: str) -> Surface:
    text = at(root, tag, root / FILE)
    if text is None or name not in read(text):
        raise RuntimeError(f"{FILE} has no {name} at {tag}")
    return read(text)[name]


def surface_problems(state: State, recorded: Surface | None, found: Answer) -> Iterator[str]:
    name = canonicalize_name(state.package.name)
    present, missing = found["surfaces"][name], found["missing"].get(name, [])
    if state.is_pending and recorded != present:
        yield (
            f"{FILE.name} does not have the public names of {state.version}: "
            "`hatch run release:record`, and commit what it writes"
        )
    for text in missing:
        yield (
            f"{text}, though {state.tag} did not call it deprecated: keep it for a release, with a "
            "DeprecationWarning that names the new spelling"
        )
    if state.released is not None and series(state.version) == series(state.released):
        number = "first" if state.version.major else "second"
        for text in found["gone"][name]:
            if text not in missing:
                yield f"{text}, unlike in {state.tag}: that raises the {number} number"


def different_ranges(states: dict[str, State]) -> Iterator[str]:
    for name in states:
        ranges: dict[str, list[str]] = {}
        for dependent, state in states.items():
            if name in state.package.dependencies:
                requirement = state.package.dependencies[name]
                ranges.setdefault(str(requirement.specifier), []).append(dependent)
        if len(ranges) > 1:
            found = "; ".join(f"{range} in {', '.join(of)}" for range, of in ranges.items())
            yield f"{name} has several ranges ({found}): use one"


def obstacles(root: Path, packages: Iterable[Package]) -> Iterator[str]:
    """Says what keeps a tag from being released, but is no fault of a commit."""
    if is_shallow(root):
        yield "the history is shallow, so tags may be missing: `git fetch --unshallow --tags`"
    elif not git(root, "tag"):
        yield "the repository has no tag: `git fetch --tags`, unless nothing was ever released"
    names = [package.name for package in packages if not package.pyproject["project"].get("urls")]
    if names:
        yield (
            "`[project.urls]` is missing: links of the readme lead nowhere on an index. Set it, "
            "and make the links absolute with hatch-fancy-pypi-readme, for " + ", ".join(names)
        )


def tag_problems(state: State, tag: str, states: dict[str, State]) -> Iterator[str]:
    root = state.root
    if tag != tag_of(state.package):
        yield f"the version is {state.package.version}, whose tag is {tag_of(state.package)}"
    if tag not in state.tags.values():
        yield f"the present commit is not that of {tag}, nor contains it: check out the tag"
    elif git(root, "rev-parse", f"{tag}^{{commit}}") != git(root, "rev-parse", "HEAD"):
        yield f"the present commit is not that of {tag}: check out the tag"
    if status := git(root, "status", "--porcelain").splitlines():
        yield "\n".join(
            ["files are not as in the commit:", *status[:5], *["..."] * (len(status) > 5)]
        )
    for name, requirement in state.package.dependencies.items():
        if name in states and not any(v in requirement.specifier for v in states[name].tags):
            yield (
                f"no tag of {name} is in the range '{requirement}': release it first (or fetch all "
                "tags, if they are only missing here)"
            )


def all_surface_problems(root: Path, states: Iterable[State]) -> dict[str, list[str]]:
    record = root / FILE
    recorded = read(record.read_text(encoding="utf-8")) if record.exists() else {}
    named = {canonicalize_name(state.package.name): state for state in states}
    tags = {name: state.tag for name, state in named.items() if state.tag is not None}
    found = answer(root, {name: surface_at(root, tag, name) for name, tag in tags.items()})
    return {
        name: [*surface_problems(state, recorded.get(name), found)] for name, state in named.items()
    }


def check(root: Path, tag: str | None = None) -> bool:
    """Prints the state of every package, and tells whether all are ready. What only keeps tags from
    being released is printed, and is a fault of `tag`.
    """
    found = packages(root)
    states = {name: State(root, package, skipped=tag) for name, package in found.items()}
    chosen = states
    if tag is not None:
        name = canonicalize_name(tag.rpartition("-v")[0])
        if name not in states:
            names = ", ".join(f"{name}-v..." for name in sorted(states))
            print(f"`--tag` must be one of {names}, got {tag!r}.")
            return False
        chosen = {name: states[name]}
    surfaces = all_surface_problems(root, chosen.values())
    in_the_way = [*obstacles(root, [state.package for state in chosen.values()])]
    report = Report()
    for name, state in chosen.items():
        problems = [
            *([] if tag is None else [*in_the_way, *tag_problems(state, tag, states)]),
            *version_problems(state),
            *changelog_problems(state),
            *range_problems(state, states),
            *surfaces[name],
        ]
        report.check(str(state), problems)
    report.check("dependents name the same range of a package", different_ranges(states))
    if report.failed:
        return False
    if tag is None:
        order = [state for state in states.values() if state.is_pending]
        print("To publish, in this order:" if order else "Nothing to publish.")
        for state in order:
            print(f"  git tag {tag_of(state.package)}")
        for text in in_the_way:
            print(f"Before any tag: {text}.")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="a tag of the present commit, such as pdequinox-conv-v0.7.0")
    arguments = parser.parse_args()
    try:
        return 0 if check(ROOT, arguments.tag) else 1
    except RuntimeError as error:
        print(f"FAIL {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Every page of the docs says what it is about before it shows numbers."""

import importlib.util
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def problem(page):
    """Says what a reader misses at the beginning of a page, or `None`."""
    # The settings of the site, between lines of dashes, and comments are not shown.
    page = re.sub(r"\A---\n.*?^---\n", "", page, flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL).lstrip()
    heading, _, rest = page.partition("\n")
    if not re.match(r"# \S", heading):
        return f"it begins with {heading[:40]!r} and not with a heading"
    before, *tables = re.split(r"^\|", rest, maxsplit=1, flags=re.MULTILINE)
    prose = re.sub(r"^```.*?^```|^(#|!\[|\[<img).*?$", "", before, flags=re.DOTALL | re.MULTILINE)
    if tables and len(prose.split()) < 10:
        return "there is a table before anything is said"
    return None


def included(found):
    """Reads what the site puts in the place of a line: a file, or a section of it."""
    text = (ROOT / found[1]).read_text(encoding="utf-8")
    marks = (f"<!-- --8<-- [{place}:{found[2]}] -->" for place in ("start", "end"))
    return re.search("(.*?)".join(map(re.escape, marks)), text, re.S)[1] if found[2] else text


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_pages_begin_with_a_heading_and_with_prose_before_tables(page):
    text = page.read_text(encoding="utf-8")
    assert problem(re.sub(r'^--8<-- "([^":]+):?(\w*)"$', included, text, flags=re.M)) is None


@pytest.mark.parametrize(
    "page",
    [
        "",
        "| a |\n| - |\n",
        "Words before the heading.\n\n# Title\n",
        "## Title\n\nOnly of the second level.\n",
        "# Title\n\n<!-- generated: errors -->\n| a |\n| - |\n",
        "# Title\n\n```bash\na command of ten words, or even a few more than ten\n```\n\n| a |\n",
        "# Title\n\n![A picture of which ten words and more tell what it shows](a.png)\n\n| a |\n",
    ],
)
def test_pages_that_begin_otherwise_are_found(page):
    assert problem(page) is not None


def test_the_gallery_shows_every_experiment():
    folder = DOCS / "experiments"
    gallery = (folder / "index.md").read_text(encoding="utf-8")
    for page in folder.glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in gallery, page.name
    for picture in folder.glob("*.png"):
        assert f'src="{picture.name}"' in gallery, picture.name


PAGE = (
    "# Title\n\n<!-- generated: a -->\nold\n<!-- end -->\n\n<!-- generated: b -->\n<!-- end -->\n"
)


@pytest.fixture
def fill():
    """What programs write into pages with: examples/pages.py, whose folder is not a package."""
    file = ROOT / "examples" / "pages.py"
    spec = importlib.util.spec_from_file_location("examples_pages", file)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found.fill


def test_programs_fill_the_parts_between_marks_and_nothing_else(fill):
    # A backslash, for a part is no pattern.
    filled = fill(PAGE, {"b": r"\1", "a": "new"})
    assert filled == PAGE.replace("old", "new").replace("b -->\n", "b -->\n\\1\n")
    assert fill(filled, {"a": "old", "b": ""}) == PAGE.replace("b -->\n", "b -->\n\n")


@pytest.mark.parametrize(
    "page",
    [
        PAGE.replace("generated: b", "generated: c"),
        PAGE.replace("<!-- end -->", "", 1),
        PAGE + "<!-- generated: a -->\n<!-- end -->\n",
        "# Title\n",
    ],
)
def test_a_page_without_the_marks_of_its_parts_is_an_error(fill, page):
    with pytest.raises(ValueError, match=r"one mark .* for each of a, b"):
        fill(page, {"a": "", "b": ""})


def generated(text):
    """Finds the parts of a page that a command fills."""
    part = r"^<!-- (?!--8<--).*? -->\n(.*?)^<!-- end -->"
    return re.findall(part, text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["convolutions", "spectral", "cpu", "weights", "sharding"])
def test_numbers_of_an_opening_stand_in_a_table(name):
    """A number with a point is one that a command wrote on the same page."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    shown = {number for part in generated(text) for number in re.findall(r"\d+\.\d+", part)}
    opening = text.partition("\n## ")[0]
    for part in generated(opening):
        opening = opening.replace(part, "")
    opening = re.sub(r"^```.*?^```|\]\(https?:[^)]*\)", "", opening, flags=re.DOTALL | re.MULTILINE)
    # Versions have three numbers.
    numbers = re.findall(r"(?<![\d.])\d+\.\d+(?!\.?\d)", opening)
    assert len(numbers) > 3 and not [number for number in numbers if number not in shown]

"""The built site, as a reader sees it."""

import ast
import re
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import pytest


ROOT = Path(__file__).resolve().parents[2]

# What a page is asked for once it is there: its links, the names that can be linked to, whether it
# is wider than the window, how high the sums of its formulas are over the size of the font, what is
# left of the source of formulas, types that were read as products, and missing pictures.
LOOK = """() => ({
    links: [...document.querySelectorAll("a[href]")].map(a => a.href),
    names: [...document.querySelectorAll("[id]")].map(element => element.id),
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    sums: [...document.querySelectorAll("math[display=block] mo")].filter(
        mo => mo.textContent == "∑").map(mo => mo.getBoundingClientRect().height
            / parseFloat(getComputedStyle(mo).fontSize)),
    source: [...document.querySelectorAll("article p, article td, article li")].filter(
        e => !e.querySelector("code") && /\\$[^$]+\\$/.test(e.textContent)).map(e => e.textContent),
    products: document.body.textContent.match(/Array, \\w+ \\* \\w+/g) || [],
    broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
})"""


def pages(site):
    """Finds the addresses of all pages, relative to the site."""
    found = [path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")]
    return sorted("" if name == "." else f"{name}/" for name in found)


@pytest.fixture(scope="module", params=[(1280, "light"), (390, "dark")], ids=["wide", "narrow"])
def seen(request, site, address, browser):
    """What is on every page, in a wide and light window and in a narrow and dark one."""
    width, scheme = request.param
    window = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found, troubles = {}, []
    window.on("pageerror", lambda error: troubles.append(str(error)))
    # The next page ends what the one before still asks for.
    window.on("requestfailed", lambda request: troubles.append(request.url)
              if request.failure != "net::ERR_ABORTED" else None)  # fmt: skip
    window.on("request", lambda request: None if request.url.startswith(address) else
              troubles.append(f"asks for {request.url}"))  # fmt: skip
    for name in pages(site):
        window.goto(address + name, wait_until="load")
        found[address + name] = window.evaluate(LOOK)
    window.close()
    assert not troubles
    return found


def test_every_internal_link_leads_somewhere(seen, site, address):
    dead = []
    for page, what in seen.items():
        for link in filter(lambda link: link.startswith(address), what["links"]):
            target, name = urldefrag(link)
            if target in seen:
                if name and name not in seen[target]["names"]:
                    dead.append((page, link))
            elif not (site / urlsplit(target).path.lstrip("/")).is_file():
                dead.append((page, link))
    assert len(seen) > 30 and not dead


def test_nothing_is_wider_than_the_window_and_no_picture_is_missing(seen):
    assert not [page for page, what in seen.items() if what["wide"] or what["broken"]]


def test_formulas_are_set(seen):
    assert not [page for page, what in seen.items() if what["source"] or what["products"]]


def test_sums_are_large(seen, address, browser):
    """Needs one of the fonts that the style sheet names, which say how large sums are."""
    style = (ROOT / "docs" / "site.css").read_text(encoding="utf-8")
    fonts = re.findall('"([^"]+)"', re.search(r"math \{\s*font-family:([^;]+);", style)[1])
    window = browser.new_page()
    width = lambda family: window.evaluate(
        """family => {
            const canvas = document.createElement("canvas").getContext("2d");
            canvas.font = `20px ${family}`;
            return canvas.measureText("formulas").width;
        }""",
        family,
    )
    there = [font for font in fonts if width(f'"{font}", monospace') != width("monospace")]
    window.close()
    assert there, f"None of the fonts {', '.join(fonts)} is installed."
    sums = [height for what in seen.values() for height in what["sums"]]
    assert len(sums) > 3 and min(sums) > 1.2


def test_search_finds_a_boundary_mode(address, browser):
    window = browser.new_page()
    window.goto(address)
    window.get_by_role("textbox", name="Search").fill("neumann_cell")
    page = "boundary_modes/"  # its address goes on with what is searched for
    window.locator(f'.md-search-result__link[href^="{address}{page}"]').first.wait_for()
    window.close()


def test_two_clicks_lead_from_the_front_page_to_rayleigh_benard(address, browser):
    window = browser.new_page()
    window.goto(address)
    window.get_by_role("link", name="Boundary modes of known data sets").click()
    window.get_by_role("article").get_by_role("link", name="The Well").first.click()
    row = window.get_by_role("row").filter(has_text="rayleigh_benard").first
    assert '["periodic", "neumann_cell"]' in row.inner_text()
    window.close()


def test_code_can_be_copied(address, browser):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    window = context.new_page()
    window.goto(f"{address}quickstart/")
    window.locator(".md-clipboard, [data-clipboard-target]").first.click()
    copied = window.evaluate("navigator.clipboard.readText()")
    assert "requirements.txt" in copied
    context.close()


def public_names():
    """The names that the packages' `__init__.py` import as themselves, with their packages."""
    for path in sorted(ROOT.glob("packages/*/src/*/__init__.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                yield from (f"{path.parent.name}.{a.asname}" for a in node.names if a.asname)


@pytest.mark.parametrize("seen", [(1280, "light")], indirect=True, ids=[""])
def test_every_public_name_has_an_entry(seen):
    entries = {name for what in seen.values() for name in what["names"]}
    names = list(public_names())
    assert len(names) > 50 and not [name for name in names if name not in entries]


def test_names_in_brackets_are_links(site):
    left = [
        path for path in site.rglob("index.html")
        if re.search(r"\]\[\]", path.read_text(encoding="utf-8"))
    ]  # fmt: skip
    assert not left

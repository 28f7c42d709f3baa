"""Reading the project's pages: their sections, commands and code blocks."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", ".github/CONTRIBUTING.md", "scripts/benchmarks/README.md", "experiments/README.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "framework").rglob("README.md"))


def text_of(page):
    return (ROOT / page).read_text()


def sections(page):
    """Return the titles of all sections, the empty one for what stands before the first, and their texts."""
    before, *parts = re.split(r"^## (.+)$", text_of(page), flags=re.MULTILINE)
    return {"": before} | dict(zip(parts[::2], parts[1::2], strict=True))


def section(page, title):
    """Return what stands under a heading of the second level."""
    assert title in sections(page), f"{page} has no section '{title}'"
    return sections(page)[title]


def without_code(text):
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def commands(text):
    """Return the indented lines, those that end in a backslash joined, as lists of words."""
    lines = re.findall(r"^    (.+)$", without_code(text).replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def code(text, language):
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def anchors(page):
    """Return the names that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

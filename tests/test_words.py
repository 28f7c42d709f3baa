"""The words that code, configuration and pages are written in: the field's, each with one meaning."""

from pathlib import Path

from tests.support.words import MODULES, misnamed

ROOT = Path(__file__).parents[1]


def written_files():
    """Return what people read: code, configuration and pages, except for the list of words and this test of it."""
    folders = ("framework", "conf", "scripts", "experiments", "tests", ".github")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    texts = [p for p in paths if p.is_file() and p.suffix in {".py", ".md", ".yaml", ".jinja", ""}]
    return sorted({*texts, ROOT / "README.md"} - {ROOT / "tests/support/words.py", Path(__file__)})


def test_a_word_is_found_in_prose_and_in_names(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(
        "# Whatever happens, the run goes\n# on.\ndef test_it_is_mended(ask):\n    self._facts = ending(recommend)\n"
    )
    assert [line.removeprefix(f"{path}:") for line in misnamed(path)] == [
        "1: 'goes # on': write resume, continue",
        "3: 'mended': write fix",
        "4: 'facts': write metadata",
    ]


def test_words_have_the_fields_meaning():
    found = [line.removeprefix(f"{ROOT}/") for path in written_files() for line in misnamed(path)]
    assert not found, "\n".join([f"{len(found)} words of tests/support/words.py:", *found])


def test_modules_have_names_that_say_what_they_hold():
    modules = sorted((ROOT / "framework").rglob("*.py"))
    found = {str(path.relative_to(ROOT)): MODULES[path.stem] for path in modules if path.stem in MODULES}
    assert not found, "".join(f"\n{path}: call it {better}" for path, better in found.items())

"""The gallery is what the committed audits found, and nothing in it is unexplained."""

import ast
import json
from pathlib import Path

import pytest

from experiments.audits import gallery

FILES = {
    path.stem: path
    for path in (gallery.ROOT / "experiments" / "audits").glob("*.py")
    if path.stem != "gallery"
}
RESULTS = sorted(gallery.RESULTS.glob("*.json"))


def test_the_page_is_made_from_the_committed_results():
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page()


def test_ten_or_more_are_audited_and_each_has_its_file():
    assert len(RESULTS) >= 10
    assert {path.stem for path in RESULTS} == set(FILES)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_failed_check_is_explained_and_confirmed(path: Path):
    found = json.loads(path.read_text(encoding="utf-8"))
    failed = [one["check"] for one in found["findings"] if one["status"] == "FAILED"]
    assert found["failed"] == failed
    assert set(found["notes"]) == set(found["confirmed"]) == set(failed)
    assert {"jax", "jaxreg"} < set(found["versions"])


@pytest.mark.parametrize("path", FILES.values(), ids=lambda path: path.stem)
def test_a_subject_s_file_says_what_it_needs_and_how_it_is_run(path: Path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert "Needs: " in text and f"jaxreg audit experiments/audits/{path.name}" in text
    assert "pip install" in text or "git -C" in text

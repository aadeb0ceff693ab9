"""What is said of bfloat16 stands in the committed figures, and so does the script's own page."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
FIGURES = json.loads((RESULTS / "bfloat16.json").read_text())
FLOAT32 = json.loads((RESULTS / "cat_sat" / "results.json").read_text())


@pytest.fixture(scope="module")
def script():
    path = ROOT / "experiments" / "robustness" / "bfloat16.py"
    spec = importlib.util.spec_from_file_location("bfloat16", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_figures_and_float32_is_the_committed_run(script):
    assert (RESULTS / "bfloat16.md").read_text() == script.markdown(FIGURES)
    alone = script.figures({"float32": FLOAT32})
    assert alone["runs"]["float32"] == FIGURES["runs"]["float32"]
    assert all(alone[name] == FIGURES[name] for name in ("experiment", "primary", "seeds"))


def test_what_the_page_says_is_what_was_found():
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    own, rounded = (FIGURES["runs"][name] for name in ("bfloat16", "bfloat16, every rounding"))
    rows = own["comparisons"]
    same = all(row["same_verdict"] for run in (own, rounded) for row in run["comparisons"])
    assert same == (f"the same {len(rows)} verdicts" in page)
    largest, largest_rounded = (
        100 * max(abs(row["change"]) for row in run["comparisons"]) for run in (own, rounded)
    )
    assert f"by {largest:.2f} points at most, by {largest_rounded:.2f} where" in page
    assert own["controls_passed"] and rounded["controls_passed"]


def test_another_verdict_is_said_and_other_seeds_are_refused(script):
    narrow = copy.deepcopy(FLOAT32)
    row = next(row for row in narrow["comparisons"] if row["verdict"])
    row["verdict"], row["difference"] = "refuted: opposite", row["difference"] - 0.1
    row["per_seed"] = [value - 0.1 for value in row["per_seed"]]
    found = script.figures({"float32": FLOAT32, "bfloat16": narrow})
    [other] = [each for each in found["runs"]["bfloat16"]["comparisons"] if each["change"]]
    assert other["arm"] == row["arm"] and other["change"] == pytest.approx(-0.1)
    assert other["same_verdict"] is False
    count = len(found["runs"]["bfloat16"]["comparisons"])
    assert f"| bfloat16 | {count - 1} of {count} | 10.00 |" in script.markdown(found)
    with pytest.raises(ValueError, match="seeds"):
        script.figures({"float32": FLOAT32, "bfloat16": narrow | {"seeds": [1]}})

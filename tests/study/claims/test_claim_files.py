"""The claim files of the repository: each loads, names tests that exist, and together they can
decide.
"""

import ast
import re
from pathlib import Path

import pytest

from jaxreg.study.analysis import statistics
from jaxreg.study.claims import verdicts as judging
from jaxreg.study.claims.claim import FRESH_SEEDS, SEEDS
from jaxreg.study.claims.design import load_claim, load_folder

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "experiments" / "claims"
FILES = sorted(FOLDER.glob("*.py"))
FOLLOWUPS = ROOT / "experiments" / "followups"


def functions(path: Path) -> set[str]:
    return {
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_claim_builds_and_its_tests_exist(path):
    claim = load_claim(path).claim
    assert claim.quote and claim.refuted_if
    for test in claim.tests:
        file, _, name = test.partition("::")
        assert name in functions(ROOT / file), test


def test_the_whole_ledger_can_decide():
    designs = load_folder(FOLDER)
    questions = judging.family(designs)
    assert {name for name, _ in questions} <= set(designs) and len(questions) >= 6
    for design in designs.values():
        assert not design.arms or statistics.can_decide(
            len(design.seeds), len(questions), judging.ALPHA
        )
        assert not design.arms or min(design.seeds) >= 200, "seeds below were seen before"


def test_what_is_asked_again_keeps_its_sentence_and_has_fresh_seeds():
    asked, again = load_folder(FOLDER), load_folder(FOLLOWUPS)
    questions = judging.family(again)
    table = (FOLLOWUPS / "README.md").read_text()
    for name, design in again.items():
        sentence = name if name in asked else name[:-1]
        words = asked[sentence].claim.quote
        assert design.claim.quote == words and re.search(rf"\b{name}\b", table), name
        assert statistics.can_decide(len(design.seeds), len(questions), judging.ALPHA)
        assert set(design.seeds).isdisjoint(SEEDS) and set(design.seeds) <= set(FRESH_SEEDS)
        assert set(design.tuning_seeds).isdisjoint(FRESH_SEEDS)


def test_every_claim_has_a_row_in_the_readme_of_the_folder():
    text = (FOLDER / "README.md").read_text()
    for word in (
        "get_claim",
        "ClaimArm",
        "Question",
        "Tune",
        "Precondition",
        "jaxreg claims",
        "jaxreg plan",
    ):
        assert word in text

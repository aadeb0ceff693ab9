"""What a claim declared is compared with what it says now; a damaged file is one line."""

import dataclasses

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.claims import declarations
from jaxreg.study.claims.claim import Claim, Question
from jaxreg.study.claims.measures import accuracy

GAIN = Question("gain", {"drop": 1, "none": -1}, accuracy("train"), 0.05, 5)
CLAIM = Claim(
    id="C1", quote="q", hypothesis="h", refuted_if="r", prediction="it gains", questions=(GAIN,)
)


def test_what_changed_is_named_by_question():
    declared = declarations.declaration(CLAIM)
    assert declarations.changes(declared, CLAIM) == [] == declarations.changes(None, CLAIM)
    later = dataclasses.replace(
        CLAIM,
        prediction="it loses",
        questions=(dataclasses.replace(GAIN, direction=-1),),
        hypothesis="words that decide nothing",
    )
    assert declarations.changes(declared, later) == [
        {"field": "prediction", "declared": "it gains", "now": "it loses"},
        {"field": "gain: direction", "declared": 1, "now": -1},
    ]
    other = dataclasses.replace(CLAIM, questions=(dataclasses.replace(GAIN, name="loss"),))
    assert declarations.changes(declared, other) == [
        {"field": "question 'gain'", "declared": "asked", "now": "not asked"},
        {"field": "question 'loss'", "declared": "not asked", "now": "asked"},
    ]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"C1": 3}', '{"C1": {}}'])
def test_a_damaged_file_is_one_line(tmp_path, content):
    assert declarations.read(tmp_path) == {}
    (tmp_path / declarations.DECLARATIONS).write_text(content)
    with pytest.raises(UserErrors, match="declarations.json is damaged: put it back"):
        declarations.read(tmp_path)

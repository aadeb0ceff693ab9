"""How much of a text a draw uses, in words, and a window that is longer than the text."""

import pytest

from jaxreg.data import SOURCES
from jaxreg.data.tokens import coverage
from jaxreg.study.design import dataset_checks
from jaxreg.study.engine import scope

SOURCE = SOURCES["tokens"]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Ten documents of 99 bytes and the end of each; two of them are validation."""
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path / "kept"))
    file = tmp_path / "my.txt"
    file.write_text("\n\n".join(chr(97 + n) * 99 for n in range(10)))
    return str(file)


def test_what_is_used_of_a_text_is_one_line(path):
    own = SOURCE.settings(seed=0, path=path, length=10, num_train=4, num_eval=2)
    line = (
        "tokens that are used: train 4 windows x 10 = 40 of 800 (5%); validation 2 windows x 10 ="
        " 20 of 200 (10%); more by data.num_train, data.num_eval"
    )
    assert coverage.used(own) == line
    data = {"dataset": "tokens", **SOURCE.defaults(), "path": path, "length": 10}
    assert scope.used(data | {"num_train": 4, "num_eval": 2}, 0) == line
    assert scope.used({"dataset": "catsat"}, 0) is None


@pytest.mark.parametrize(
    "length, words",
    [
        (199, None),
        (200, "data.length is 200; a window takes 201 tokens of the documents of a split: those of"
         " validation have 200"),
        (800, "data.length is 800; a window takes 801 tokens of the documents of a split: those of"
         " train have 800, those of validation have 200"),
    ],
)  # fmt: skip
def test_a_length_that_no_text_has_is_blamed_and_not_the_number_of_windows(path, length, words):
    given = {"path": path, "length": length, "num_train": 4, "num_eval": 2}
    assert coverage.too_long(SOURCE.settings(seed=0, **given)) == words
    with pytest.raises(ValueError, match="data.num_") as error:
        SOURCE.preview(**given)
    found = dataset_checks.not_drawn(SOURCE, given, error.value)
    assert found == (str(error.value).splitlines() if words is None else [words])


def test_other_mistakes_of_a_draw_stay_as_they_are(tmp_path):
    error = ValueError("one\ntwo")
    missing = {"path": str(tmp_path / "nowhere")}
    assert dataset_checks.not_drawn(SOURCE, missing, error) == ["one", "two"]
    assert dataset_checks.not_drawn(SOURCES["text"], {}, error) == ["one", "two"]

"""How much of a text a draw uses, in words, and a window that is longer than the text."""

import pytest

from jaxreg.data import SOURCES
from jaxreg.data.tokens import coverage, room
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
    assert scope.used({"dataset": "catsat"}, [0], 16) == []


def used(path, seeds=(0,), **changes):
    data = {"dataset": "tokens", **SOURCE.defaults(), "path": path, "length": 10} | changes
    return scope.used(data, seeds, 16)


def test_what_to_paste_for_all_of_a_text_is_the_most_that_can_be_drawn(path):
    first, second = used(path, num_train=4, num_eval=2)
    assert first.endswith("validation 2 windows x 10 = 20 of 200 (10%)")
    assert second == (
        "--config.data.num_train=79 --config.data.num_eval=19 is all of it; one pass over it takes"
        " 5 steps of 16 windows"
    )
    assert used(path, num_train=79, num_eval=19)[1] == (
        "that is all of it; one pass over it takes 5 steps of 16 windows"
    )
    given = {"path": path, "length": 10, "num_eval": 19}
    assert len(SOURCE.preview(**given, num_train=79).splits["train"]) == 79
    for more in ({"num_train": 80}, {"num_train": 79, "num_eval": 20}):
        with pytest.raises(ValueError, match="data.num_"):
            SOURCE.preview(**given | more)


def test_windows_that_are_in_both_splits_are_not_counted(path, tmp_path):
    file = tmp_path / "again.txt"
    file.write_text("\n\n".join(f"{n % 10}" + "abcdefghi" * 11 for n in range(40)))
    given = {"path": str(file), "length": 3, "num_train": 4, "num_eval": 2}
    found = room.room(SOURCE.settings(seed=0, **given))
    assert found.num_eval == 0 or SOURCE.preview(**given | vars(found))
    with pytest.raises(ValueError, match="are in training, word for word: take at most"):
        SOURCE.preview(**given | {"num_train": found.num_train, "num_eval": 200})


def test_of_a_large_text_only_the_training_windows_are_counted(path, monkeypatch):
    monkeypatch.setattr(room, "MOST_READ", 999)
    assert used(path)[1] == (
        "that is all of it for training; one pass over it takes 5 steps of 16 windows"
    )
    monkeypatch.setattr(room, "MOST_READ", 2000)
    assert "num_eval=19 is all" in used(path, (0, 1), num_train=4)[1]
    monkeypatch.setattr(room, "MOST_READ", 1999)
    assert "num_train=79 is all of it for" in used(path, (0, 1), num_train=4)[1]


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

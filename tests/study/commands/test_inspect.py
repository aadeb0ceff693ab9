"""The matrices that `jaxreg inspect` prints: every column, and what a causal model cannot see."""

import io

import numpy as np
from rich.console import Console

from jaxreg.study.commands import inspect


def printed(words, *, causal=False, width=100):
    size = len(words)
    weights = np.full((1, 1, size, size), 0.25)
    kept = np.ones((1, 1, size, size), bool)
    kept[0, 0, -1, 0] = False
    found = inspect.Matrices(
        weights=weights,
        kept=kept,
        allowed=np.tri(size, k=0 if causal else size, dtype=bool),
        scale=2.0,
        words=tuple(words),
        query=-1,
        answer=None,
        example=0,
        real=True,
    )
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in (tables := inspect._tables(found, 0, 0, console)):
        console.print(table, crop=False)
    return tables, console.file.getvalue().splitlines()


def test_both_matrices_stand_side_by_side_where_there_is_room():
    tables, lines = printed("abc")
    assert len(tables) == 1
    assert lines[-1].split() == ["c", *["0.25"] * 3, "|", "×", "0.50", "0.50"]


def test_no_column_of_a_long_sentence_is_left_out():
    words = [f"w{i}" for i in range(30)]
    tables, lines = printed(words)
    assert len(tables) == 2
    before, after = (line.split() for line in lines if line.startswith("w29 "))
    assert before == ["w29", *["0.25"] * 30]
    assert after == ["w29", "×", *["0.50"] * 29]
    heads = [line.split() for line in lines if line.split()[:2] == words[:2]]
    assert heads == [words, words]


def test_what_a_causal_model_may_not_attend_to_is_neither_a_weight_nor_dropped():
    _, lines = printed("abc", causal=True)
    first, last = lines[-3].split(), lines[-1].split()
    assert first == ["a", "0.25", "·", "·", "|", "0.50", "·", "·"]
    assert last == ["c", *["0.25"] * 3, "|", "×", "0.50", "0.50"]

"""RECALL: answers read off the row by hand, one edge that carries all of it, and no shared rows."""

import dataclasses

import numpy as np
import pytest

from jaxreg.data import LeakError
from jaxreg.data.recall import SOURCE, Settings, check_leaks, draw_splits

SETTINGS = Settings(seed=5, num_train=2000, num_eval=300)


@pytest.fixture(scope="module")
def drawn():
    return SOURCE.dataset(draw_splits(SETTINGS), SETTINGS)


def bound_value(words):
    """The value that the row binds to the key it asks for: "k3=v1 k0=v5 k3?" -> "v1"."""
    *pairs, query = words
    return dict(pair.split("=") for pair in pairs)[query.removesuffix("?")]


@pytest.mark.parametrize("name", SOURCE.splits)
def test_the_answer_is_the_value_bound_to_the_key(drawn, name):
    split = drawn.splits[name]
    for row in range(len(split)):
        words = drawn.sentence(name, row).split()
        assert bound_value(words) == drawn.outputs[split.label[row]]
        assert (
            len({word.split("=")[0] for word in words[:-1]})
            == len(words) - 1
            == (1 if name == "alone" else 6)
        )
        assert drawn.tokens[split.tokens[row, split.query_position[row]]] == words[-1]
        pair = drawn.tokens[split.tokens[row, split.cues[row, 0]]]
        assert pair.split("=")[0] == words[-1].removesuffix("?")
    assert (split.foil == -1).all() and split.query_position.tolist() == [6] * len(split)


def test_the_rest_of_the_row_tells_nothing(drawn):
    """Whoever is cut from the edge, and guesses a value that stands elsewhere or one that does not,
    is right once in eight.
    """
    split, right = drawn.splits["train"], {"most": 0, "first": 0, "absent": 0}
    absent_rows = 0
    for row in range(len(split)):
        words = drawn.sentence("train", row).split()
        others = [
            word.split("=")[1]
            for word in words[:-1]
            if word.split("=")[0] != words[-1].removesuffix("?")
        ]
        answer = drawn.outputs[split.label[row]]
        right["most"] += max(sorted(set(others)), key=others.count) == answer
        right["first"] += others[0] == answer
        absent = sorted(set(drawn.outputs) - set(others))
        absent_rows += bool(absent)
        right["absent"] += bool(absent) and absent[0] == answer
    for name, count in right.items():
        rows = absent_rows if name == "absent" else len(split)
        assert abs(count - rows / 8) < 4 * np.sqrt(rows * 7 / 64), (name, count)
    assert {drawn.chance_of(view) for view in drawn.views} == {1 / 8}


def test_views_cut_the_edge(drawn):
    assert {view.name: view.cut for view in drawn.views if view.cut} == {
        "edge_cut": ("edge",),
        "alone_cut": ("edge",),
    }
    assert [view.name for view in drawn.views if view.at_chance] == ["alone_cut"]
    remaining = drawn.splits["alone"].tokens.copy()
    rows = np.arange(len(remaining))
    remaining[rows, drawn.splits["alone"].cues[:, 0]] = 0
    remaining[rows, drawn.splits["alone"].query_position] = 0
    assert not remaining.any()


def test_every_place_is_asked(drawn):
    for name in SOURCE.splits:
        places = np.bincount(drawn.splits[name].cues[:, 0], minlength=7)
        assert (
            places[6] == 0
            and (
                abs(places[:6] - len(drawn.splits[name]) / 6)
                < 5 * np.sqrt(len(drawn.splits[name]) / 6)
            ).all()
        )


def test_a_training_row_in_another_order_is_found(drawn):
    split = drawn.splits["validation"]
    tokens = split.tokens.copy()
    tokens[0] = drawn.splits["train"].tokens[0]
    tokens[0, :6] = tokens[0, 5::-1]
    leaky = {**drawn.splits, "validation": dataclasses.replace(split, tokens=tokens)}
    check_leaks(drawn.splits, SETTINGS)
    with pytest.raises(LeakError, match="both ask"):
        check_leaks(leaky, SETTINGS)


def test_rows_do_not_repeat_even_when_nearly_all_are_used():
    settings = Settings(
        seed=1, num_pairs=2, num_keys=2, num_values=3, num_train=12, num_eval=6, length=3
    )
    splits = draw_splits(settings)  # of 9 values x 2 queries = 18 rows, all
    rows = {
        (frozenset(row[:2].tolist()), int(row[2]))
        for name in ("train", "validation")
        for row in splits[name].tokens
    }
    assert len(rows) == 18
    check_leaks(splits, settings)
    with pytest.raises(ValueError, match="data.num_eval is 7; validation has too few"):
        draw_splits(dataclasses.replace(settings, num_eval=7))


def test_splits_do_not_move_one_another(drawn):
    more = draw_splits(dataclasses.replace(SETTINGS, num_eval=400))
    np.testing.assert_array_equal(more["train"].tokens, drawn.splits["train"].tokens)
    other = draw_splits(dataclasses.replace(SETTINGS, seed=6))
    assert (other["train"].tokens != drawn.splits["train"].tokens).any(axis=1).all()


def test_padding_stands_behind():
    split = draw_splits(Settings(seed=1, num_pairs=4, length=7, num_train=8, num_eval=4))["train"]
    assert (split.tokens[:, :5] > 0).all() and not split.tokens[:, 5:].any()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"num_pairs": 7}, "at most num_keys 6"),
        ({"length": 6}, r"at least num_pairs 6 \+ 1"),
        ({"num_values": 1}, "data.num_values"),
        ({"num_pairs": 1}, "data.num_pairs"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        Settings(**{"seed": 0, **change})

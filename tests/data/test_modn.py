"""MODN: labels by hand, corruption as asked for, and both orders of a pair on one side."""

import dataclasses

import numpy as np
import pytest

from jaxreg.data import LeakError
from jaxreg.data.modn import (
    COMMUTATIVE,
    OPERATIONS,
    SOURCE,
    Settings,
    check_leaks,
    draw_splits,
    true_labels,
)

SETTINGS = Settings(seed=3, modulus=13, num_train=100, num_eval=50, corrupted_rate=0.2)
BY_HAND = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "o": lambda a, b: a**2 + a * b + b**2,
}


@pytest.fixture(scope="module")
def drawn():
    return SOURCE.dataset(draw_splits(SETTINGS), SETTINGS)


def right_answer(sentence, modulus):
    """The answer of a row such as "7 + 9 =", in plain integers."""
    a, sign, b, equals = sentence.split()
    assert equals == "="
    return str(BY_HAND[sign](int(a), int(b)) % modulus)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_labels_are_right_where_they_should_be(operation):
    settings = dataclasses.replace(SETTINGS, operation=operation)
    data = SOURCE.dataset(draw_splits(settings), settings)
    for name, split in data.splits.items():
        for row in range(len(split)):
            corrupted = name == "train" and split.tags[row, data.tag_names.index("corrupted")]
            assert (
                right_answer(data.sentence(name, row), 13) != data.outputs[split.label[row]]
            ) == corrupted
        assert (
            true_labels(split.tokens, settings)
            == [int(right_answer(data.sentence(name, row), 13)) for row in range(len(split))]
        ).all()


def test_as_many_labels_are_corrupted_as_asked(drawn):
    train = drawn.splits["train"]
    assert (train.tags[:, 0] == ~train.tags[:, 1]).all() and train.tags[:, 1].sum() == 20
    weights = {view.name: drawn.view_weights(view).sum() for view in drawn.views}
    assert weights == {
        "train": 100,
        "validation": 50,
        "train_clean": 80,
        "train_corrupted": 20,
        "train_corrupted_true": 20,
    }
    corrected = {tuple(row) for row in drawn.splits["corrected"].tokens.tolist()}
    assert corrected == {tuple(row) for row in train.tokens[train.tags[:, 1]].tolist()}


def test_wrong_labels_are_uniform_among_the_wrong_ones():
    settings = Settings(seed=0, modulus=7, num_train=20, num_eval=5, corrupted_rate=1.0)
    apart = np.zeros(7, int)
    for seed in range(300):
        train = draw_splits(dataclasses.replace(settings, seed=seed))["train"]
        apart += np.bincount((train.label - true_labels(train.tokens, settings)) % 7, minlength=7)
    assert apart[0] == 0 and (abs(apart[1:] - 1000) < 5 * np.sqrt(1000 * 5 / 6)).all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_both_orders_of_a_pair_stay_together_where_order_does_not_matter(operation):
    settings = dataclasses.replace(SETTINGS, operation=operation)
    pairs = {
        name: {tuple(row) for row in split.tokens[:, [0, 2]].tolist()}
        for name, split in draw_splits(settings).items()
    }
    assert len(pairs["train"]) == 100 and len(pairs["validation"]) == 50
    mirrored = {(b, a) for a, b in pairs["train"]}
    assert not pairs["validation"] & pairs["train"]
    assert bool(pairs["validation"] & mirrored) == (operation not in COMMUTATIVE)
    rule = BY_HAND[OPERATIONS[operation][0]]
    assert any(rule(a, b) % 13 != rule(b, a) % 13 for a in range(13) for b in range(13)) == (
        operation not in COMMUTATIVE
    )


def test_a_mirrored_pair_and_a_wrong_held_out_label_are_found(drawn):
    check_leaks(drawn.splits, SETTINGS)
    split = drawn.splits["validation"]
    mirrored = dataclasses.replace(split, tokens=split.tokens.copy(), label=split.label.copy())
    row = np.flatnonzero(drawn.splits["train"].tokens[:, 0] != drawn.splits["train"].tokens[:, 2])[
        0
    ]
    mirrored.tokens[0, [2, 0]] = drawn.splits["train"].tokens[row, [0, 2]]
    with pytest.raises(LeakError, match="share the pair"):
        check_leaks({**drawn.splits, "validation": mirrored}, SETTINGS)
    wrong = dataclasses.replace(
        split, label=(split.label + (np.arange(50) == 7)).astype(np.int32) % 13
    )
    with pytest.raises(LeakError, match="validation has a wrong label"):
        check_leaks({**drawn.splits, "validation": wrong}, SETTINGS)


def test_the_corruption_moves_nothing_else(drawn):
    clean = draw_splits(dataclasses.replace(SETTINGS, corrupted_rate=0.0))
    more = draw_splits(dataclasses.replace(SETTINGS, corrupted_rate=0.5))
    np.testing.assert_array_equal(clean["train"].tokens, drawn.splits["train"].tokens)
    np.testing.assert_array_equal(clean["validation"].tokens, drawn.splits["validation"].tokens)
    kept = drawn.splits["train"].tags[
        :, 1
    ]  # what is corrupted at .2 is corrupted at .5, to the same label
    assert more["train"].tags[kept, 1].all()
    np.testing.assert_array_equal(more["train"].label[kept], drawn.splits["train"].label[kept])


@pytest.mark.parametrize(
    "rate, views",
    [
        (0.0, ["train", "validation", "train_clean"]),
        (1.0, ["train", "validation", "train_corrupted", "train_corrupted_true"]),
    ],
)
def test_nothing_and_everything_corrupted_can_be_written_and_read(tmp_path, rate, views):
    for _ in range(2):  # made, then read
        data = SOURCE.load(
            seed=1, cache_dir=tmp_path, modulus=7, num_train=20, num_eval=5, corrupted_rate=rate
        )
        assert [view.name for view in data.views] == views and len(
            data.splits["corrected"]
        ) == 20 * rate


@pytest.mark.parametrize(
    "change, said",
    [
        ({"operation": "divide"}, "one of: add, subtract"),
        ({"corrupted_rate": 1.1}, "data.corrupted_rate"),
        ({"length": 3}, "data.length"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        Settings(**{"seed": 0, **change})


def test_too_many_pairs_are_refused():
    with pytest.raises(ValueError, match="modulus 13 has 169 pairs"):
        draw_splits(dataclasses.replace(SETTINGS, num_eval=70))

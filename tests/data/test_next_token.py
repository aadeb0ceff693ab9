"""Rows that are asked for the next token at every position, and the unigram model."""

import dataclasses
import math

import numpy as np
import pytest

from jaxreg.data import Source, Split, Unigram, View, next_token_split
from jaxreg.data.cache import prepare, read
from jaxreg.study.design import dataset_checks
from tests.helpers import next_tokens

WINDOWS = np.array([[3, 1, 2, 2, 5], [4, 1, 6, 0, 0], [0, 2, 3, 1, 1]], np.int32)


def test_each_position_is_labelled_with_the_token_after_it_and_padding_is_not_asked():
    split = next_token_split(WINDOWS)
    for row, window in enumerate(WINDOWS.tolist()):
        for at in range(4):
            token, following = window[at], window[at + 1]
            assert split.tokens[row, at] == token
            asked = token != 0 and following != 0
            assert split.label[row, at] == (following if asked else -1)
    assert split.query_position is None and split.foil is None
    assert set(split.arrays()) == {"tokens", "label", "template", "cues", "tags"}
    assert np.array_equal(split.take(np.array([2, 0])).label, split.label[[2, 0]])


def test_the_unigram_model_is_that_of_a_slow_count():
    train, other = next_token_split(WINDOWS), next_token_split(WINDOWS[:, ::-1].copy())
    counts = dict.fromkeys(range(7), 0)
    for row in train.label.tolist():
        for label in row:
            if label >= 0:
                counts[label] += 1
    most = max(counts, key=lambda token: counts[token])
    total = sum(counts.values()) + 7
    hits, nats = [], []
    for row in other.label.tolist():
        asked = [label for label in row if label >= 0]
        hits.append(sum(label == most for label in asked) / len(asked))
        nats.append(sum(-math.log((counts[label] + 1) / total) for label in asked) / len(asked))
    found = Unigram.of(train.label, 7)
    assert found.counts.tolist() == list(counts.values())
    assert found.accuracy(other.label) == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    assert found.loss(other.label) == pytest.approx(sum(nats) / len(nats), abs=1e-12)


def test_a_data_set_knows_what_a_guess_gives_on_each_view():
    dataset = next_tokens.dataset()
    unigram = Unigram.of(dataset.splits["train"].label, 7)
    for view in dataset.views:
        labels = dataset.splits[view.split].label
        assert dataset.chance_of(view) == unigram.accuracy(labels)
        assert dataset.guess_loss_of(view) == unigram.loss(labels)
        assert 1.5 < dataset.guess_loss_of(view) < math.log(7)


def test_the_files_hold_the_same_rows(tmp_path):
    settings = next_tokens.Settings(3)
    prepare(next_tokens.LETTERS, settings, tmp_path)
    for name, split in read(next_tokens.LETTERS, settings, tmp_path).items():
        drawn = next_tokens.draw(settings)[name]
        assert split.query_position is None and split.foil is None
        assert list(split.arrays()) == list(drawn.arrays())
        for column, array in drawn.arrays().items():
            assert np.array_equal(split.arrays()[column], array), column


def changed(**columns) -> list[str]:
    """The mistakes of the data set with other columns in its training split."""
    dataset = next_tokens.dataset()
    train = dataclasses.replace(dataset.splits["train"], **columns)
    splits = {**dataset.splits, "train": train}
    return dataset_checks.mistakes(dataclasses.replace(dataset, splits=splits), 8)


def test_wrong_rows_are_named():
    assert changed() == []
    train = next_tokens.dataset().splits["train"]
    n = len(train)
    start = "data set letters, split 'train': "
    label = train.label.copy()
    label[5, 2], label[6] = 7, -1
    assert changed(label=label) == [
        f"{start}row 6 asks nothing (1 such in all)",
        f"{start}row 5 has label 7; it must be from -1 to 6 (1 such in all)",
    ]
    label = train.label.copy()
    label[0, 7] = 3
    assert changed(label=label) == [f"{start}row 0 is asked at padding, position 7"]
    assert changed(label=train.label[:, 0].clip(0)) == [
        f"{start}its labels have the shape ({n},); one for each position is ({n}, 8)"
    ]
    assert changed(query_position=np.zeros(n, np.int32)) == [
        f"{start}it has query_position, though every position is asked"
    ]


def test_rows_of_one_answer_need_their_query_and_foil():
    from tests.helpers import tiny

    dataset = tiny.dataset(1)
    train = dataclasses.replace(dataset.splits["train"], query_position=None, foil=None)
    found = dataclasses.replace(dataset, splits={**dataset.splits, "train": train})
    assert dataset_checks.mistakes(found, train.tokens.shape[1]) == [
        f"data set catsat, split 'train': it has no {name}; only rows with"
        " answers='every_position' have none"
        for name in ("query_position", "foil")
    ]


def test_views_that_cut_one_query_are_refused():
    given = {f.name: getattr(next_tokens.LETTERS, f.name) for f in dataclasses.fields(Source)}
    cut = View("cut", "cut", "validation", cut=("noun",))
    with pytest.raises(ValueError, match="data set letters: view 'cut' cuts or renews what one"):
        Source(**given | {"views": (*next_tokens.LETTERS.views, cut)})


def test_a_split_says_what_it_has():
    assert isinstance(next_tokens.dataset().splits["train"], Split)
    assert len(next_tokens.dataset().splits["train"]) == 24

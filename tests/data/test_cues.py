"""CUES: shares are exact, cues say what they should in each split, and planted leaks are found."""

import dataclasses

import numpy as np
import pytest

from jaxreg.data import LeakError, Split, cues
from jaxreg.data.cache import _digest
from jaxreg.data.cues import (
    A_WORDS,
    B_WORDS,
    CORE,
    FILLERS,
    OUTPUTS,
    QUERIES,
    SHORTCUTS,
    TOKENS,
    Settings,
    check_leaks,
    draw_splits,
)

SETTINGS = Settings(
    seed=7,
    noise_rate=0.125,
    num_canaries=8,
    canary_repeats=3,
    num_train=256,
    num_eval=200,
    max_offset=1,
)
SAYS = {
    word: (cue, way)
    for cue, words in (("a", A_WORDS), ("b", B_WORDS), ("shortcut", SHORTCUTS))
    for way in (0, 1)
    for word in words[way]
}
REGULAR = {"train", "validation", "shifted", "swapped"}


@pytest.fixture(scope="module")
def splits():
    return draw_splits(SETTINGS)


def read(split, row):
    """{cue: (class it tells, position)} and the words of a row, found by looking at every word."""
    words = [TOKENS[token] for token in split.tokens[row]]
    found = {}
    for place, word in enumerate(words):
        if word in SAYS:
            assert SAYS[word][0] not in found, "each cue once at most"
            found[SAYS[word][0]] = (SAYS[word][1], place)
    return found, words


def truth(split, row):
    """The class that A tells, else B's."""
    found, _ = read(split, row)
    return found["a"][0] if "a" in found else found["b"][0]


def test_each_row_is_its_core_among_fillers(splits):
    for name, split in splits.items():
        for row in range(len(split)):
            found, words = read(split, row)
            query = split.query_position[row]
            assert words[query] in QUERIES and sum(word in QUERIES for word in words) == 1
            assert all(
                word in FILLERS
                for place, word in enumerate(words)
                if place != query and place not in {p for _, p in found.values()}
            )
            start = query - CORE.index("query")
            order = {"a": "b", "b": "a"} if name == "swapped" else {}
            for index, cue in enumerate(("a", "b", "shortcut")):
                if cue in found:
                    assert (
                        found[cue][1]
                        == split.cues[row, index]
                        == start + CORE.index(order.get(cue, cue))
                    )
                else:
                    assert split.cues[row, index] == -1
            assert (start > SETTINGS.max_offset) == (name == "shifted") and 0 <= start <= 12 - len(
                CORE
            )
            assert {split.label[row] // 2, split.foil[row] // 2} == {
                QUERIES.index(words[query])
            } and split.label[row] ^ split.foil[row] == 1
            assert (
                OUTPUTS[split.label[row]]
                == f"{words[query].lower()}-{('up', 'down')[split.label[row] % 2]}"
            )


@pytest.mark.parametrize(
    "name, there",
    [
        ("train", "ab s"),
        ("validation", "ab s"),
        ("shortcut_against", "ab s"),
        ("no_shortcut", "ab"),
        ("a_removed", "b"),
        ("b_removed", "a"),
        ("conflict", "ab"),
        ("shifted", "ab s"),
        ("swapped", "ab s"),
        ("nothing", ""),
    ],
)
def test_which_cues_stand_in_a_split_and_what_they_say(splits, name, there):
    split = splits[name]
    for row in range(len(split)):
        if name == "train" and split.tags[row, 2]:
            assert not read(split, row)[0], "a canary"
            continue
        found, _ = read(split, row)
        assert set(found) == {
            {"a": "a", "b": "b", "s": "shortcut"}[letter] for letter in there.replace(" ", "")
        }
        if not found:
            continue
        way = truth(split, row)
        assert split.label[row] % 2 == (1 - way if name == "train" and split.tags[row, 1] else way)
        if {"a", "b"} <= set(found):
            assert (found["a"][0] == found["b"][0]) == (name != "conflict")
        if name == "shortcut_against":
            assert found["shortcut"][0] != way


@pytest.mark.parametrize("rho", [0.5, 0.75, 0.8, 1.0])
def test_the_shortcut_agrees_in_exactly_its_share(rho):
    settings = dataclasses.replace(SETTINGS, rho=rho, noise_rate=0.0)
    splits = draw_splits(settings)
    for name in REGULAR:
        split = splits[name]
        rows = [row for row in range(len(split)) if not split.tags[row, 2]]
        for way in (0, 1):
            agrees = [
                read(split, row)[0]["shortcut"][0] == way
                for row in rows
                if truth(split, row) == way
            ]
            assert abs(sum(agrees) - rho * len(agrees)) <= 0.5, name


def test_wrong_labels_and_canaries_are_as_many_as_asked(splits):
    split = splits["train"]
    assert len(split) == 256 and split.tags.sum(0).tolist() == [203, 29, 24], (
        "29 = an eighth of 232"
    )
    np.testing.assert_array_equal(split.tags.sum(1), 1)
    canaries = split.tokens[split.tags[:, 2]]
    _, repeats = np.unique(canaries, axis=0, return_counts=True)
    assert repeats.tolist() == [3] * 8
    for row in np.unique(canaries, axis=0):
        same = (split.tokens == row).all(1)
        assert len(set(split.label[same].tolist())) == 1, "the same answer each time"


def test_classes_queries_and_words_have_equal_shares(splits):
    for name, split in splits.items():
        if name == "train":
            split = split.take(~split.tags[:, 2])
        way = np.where(split.tags[:, 1], 1 - split.label % 2, split.label % 2)
        assert abs(way.sum() - len(split) / 2) <= 0.5, name
        counts = np.bincount(split.label // 2, minlength=6)
        assert counts.max() - counts.min() <= 2, name
        for words in (A_WORDS, B_WORDS):
            ids = [TOKENS.index(word) for each in words for word in each]
            used = np.array([(split.tokens == token).sum() for token in ids])
            assert used.max() - used.min() <= 2, name


def test_no_row_stands_twice_but_canaries(splits):
    rows = np.concatenate([split.tokens for split in splits.values()])
    _, counts = np.unique(rows, axis=0, return_counts=True)
    assert sorted(counts[counts > 1].tolist()) == [3] * 8


def test_without_noise_and_canaries_their_views_are_left_out():
    settings = Settings(seed=0, num_canaries=0)
    dataset = cues.SOURCE.dataset(draw_splits(settings), settings)
    assert {view.name for view in cues.VIEWS} - {view.name for view in dataset.views} == {
        "corrupted",
        "canaries",
    }


def test_the_draw_belongs_to_the_version():
    """If this fails, the generator draws other rows than before: raise VERSION, write it here."""
    digest = _digest(draw_splits(Settings(seed=0, num_train=64, num_eval=16)))
    assert (cues.VERSION, digest[:16]) == (1, "f40e4dd1f07a93de")


def planted(splits, name, source, row=0):
    arrays = {field: array.copy() for field, array in splits[name].arrays().items()}
    for field, array in arrays.items():
        array[0] = splits[source].arrays()[field][row]
    return {**splits, name: Split(**arrays)}


@pytest.mark.parametrize(
    "target, source, said",
    [
        ("train", "conflict", "train has a row whose cues do not agree"),
        ("train", "a_removed", "train has a row whose cues do not agree"),
        ("train", "nothing", "train has a row whose cues do not agree"),
        ("nothing", "validation", "nothing has a row with a cue"),
        ("shortcut_against", "train", "train and shortcut_against share a row"),
        ("shifted", "validation", "core stands where"),
    ],
)
def test_planted_leaks_are_found(splits, target, source, said):
    check_leaks(splits, SETTINGS)
    with pytest.raises(LeakError, match=said):
        check_leaks(planted(splits, target, source), SETTINGS)


def test_a_canary_with_a_cue_and_a_trained_row_with_another_answer_are_found(splits):
    canary = int(np.flatnonzero(splits["train"].tags[:, 2])[0])
    leaky = planted(splits, "train", "train")
    leaky["train"].tokens[canary, 0] = TOKENS.index("heron")
    with pytest.raises(LeakError, match="train has a row with a cue"):
        check_leaks(leaky, SETTINGS)
    flipped = planted(splits, "validation", "train")
    flipped["validation"].label[0], flipped["validation"].foil[0] = (
        flipped["validation"].foil[0],
        flipped["validation"].label[0],
    )
    with pytest.raises(LeakError, match="train and validation share a row"):
        check_leaks(flipped, SETTINGS)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"rho": 0.4}, "data.rho is 0.4; it must be from 0.5 to 1.0"),
        ({"noise_rate": 0.6}, "data.noise_rate"),
        ({"max_offset": 6}, "data.max_offset is 6; it must be below 6"),
        ({"num_canaries": 128}, "256 rows of them leave none of data.num_train"),
        ({"length": 6}, "data.length"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        Settings(**{"seed": 0, **change})


def test_too_many_rows_are_refused(monkeypatch):
    """With one filler word a row has nothing to differ in from another of the same cue words and
    query.
    """
    monkeypatch.setattr(cues, "_FILLER_IDS", cues._FILLER_IDS[:1])
    with pytest.raises(ValueError, match="data.num_train is 64; train has too few distinct rows"):
        draw_splits(Settings(seed=0, num_train=64))

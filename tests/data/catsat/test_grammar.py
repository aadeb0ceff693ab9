"""Cells: what is drawn in them, and how many sentences there are."""

import numpy as np
import pytest

from jaxreg.data.catsat import grammar, lexicon
from jaxreg.data.catsat.grammar import FRAMES, Cell
from jaxreg.data.catsat.splits import generator

PAIRS = np.array([[0, 0], [1, 5]], np.int32)  # cat SIT, dog MOVE


def distinct(cell, pairs, neutral_rate):
    return len(
        np.unique(
            grammar.codes(grammar.draw(generator(0, "test"), cell, pairs, neutral_rate, 120_000))
        )
    )


@pytest.mark.parametrize("neutral_rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("frame", list(FRAMES))
def test_num_sentences_is_what_drawing_finds(frame, neutral_rate):
    cell = Cell(frame, lexicon.SINGULAR, neutral=False)
    for pairs in (
        PAIRS[:1],
        np.array([[12, 3]], np.int32),
    ):  # a noun's object differs from it; a nonce word has all
        assert distinct(cell, pairs, neutral_rate) == grammar.num_sentences(
            cell, pairs, neutral_rate
        )
    assert grammar.num_sentences(cell, PAIRS, neutral_rate) == 2 * grammar.num_sentences(
        cell, PAIRS[:1], neutral_rate
    )


@pytest.mark.parametrize("number", [lexicon.SINGULAR, lexicon.PLURAL])
def test_words_fill_their_slots(number):
    tokens = grammar.draw(
        generator(0, "test"), Cell("attractor", number, neutral=False), PAIRS, 0.3, 200
    )
    words = [[lexicon.TOKENS[token] for token in row if token] for row in tokens]
    for determiner, subject, preposition, _, thing, stem in words:
        assert determiner in lexicon.INFORMATIVE_DETERMINERS[number]
        assert (subject, stem) in [
            (lexicon.NOUNS[0][number], "SIT"),
            (lexicon.NOUNS[1][number], "MOVE"),
        ]
        assert preposition in lexicon.PREPOSITIONS
        others = [noun[1 - number] for noun in lexicon.NOUNS + lexicon.OBJECT_NOUNS]
        assert thing in others and others.index(thing) != [
            cat[number] for cat in lexicon.NOUNS
        ].index(subject)


def test_two_adjectives_differ():
    tokens = grammar.draw(generator(0, "test"), Cell("two_adjectives", 0, True), PAIRS, 0.3, 500)
    assert (tokens[:, 1] != tokens[:, 2]).all()


def test_flipping_the_object_twice_changes_nothing():
    tokens = grammar.draw(generator(0, "test"), Cell("attractor", 0, True), PAIRS, 0.3, 200)
    twins = grammar.flip_object_number(tokens, "attractor")
    same = [0, 1, 2, 5, 6]
    np.testing.assert_array_equal(tokens[:, same], twins[:, same])
    assert (tokens[:, 4] != twins[:, 4]).all()
    np.testing.assert_array_equal(grammar.flip_object_number(twins, "attractor"), tokens)
    neutral = np.isin(tokens[:, 3], lexicon.ids(lexicon.NEUTRAL_DETERMINERS))
    np.testing.assert_array_equal(neutral, tokens[:, 3] == twins[:, 3])


def test_draw_distinct_can_empty_a_cell():
    cell = Cell("plain", lexicon.PLURAL, neutral=False)
    everything = grammar.draw_distinct(
        generator(0, "test"), cell, PAIRS, 0.3, 4, np.zeros(0, np.int64)
    )
    assert len(np.unique(grammar.codes(everything))) == grammar.num_sentences(cell, PAIRS, 0.3) == 4
    rest = grammar.draw_distinct(
        generator(1, "test"), cell, PAIRS, 0.3, 1, grammar.codes(everything[:3])
    )
    np.testing.assert_array_equal(rest, everything[3:])


@pytest.mark.parametrize("k", [1, 4, 11])
def test_pairs_are_split_evenly(k):
    permutation = generator(0, "pairs").permutation(12).astype(np.int32)
    trained = grammar.subject_verb_pairs(permutation, 0, k)
    held_out = grammar.subject_verb_pairs(permutation, k, 12)
    assert len({*map(tuple, trained.tolist()), *map(tuple, held_out.tolist())}) == 144
    assert np.bincount(trained[:, 0]).tolist() == [k] * 12 == np.bincount(trained[:, 1]).tolist()
    assert trained[trained[:, 0] == 3, 1].tolist() == [permutation[(3 + j) % 12] for j in range(k)]

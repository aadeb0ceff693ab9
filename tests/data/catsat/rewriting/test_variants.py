"""Variants of training sentences: what they keep, where they stand, and that nothing held out leaks
through them.
"""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxreg.data import SOURCES, LeakError
from jaxreg.data.catsat import lexicon, source
from jaxreg.data.catsat.grammar import FRAMES
from jaxreg.data.catsat.rewriting import REWRITINGS, check_variants, variants
from jaxreg.data.catsat.rewriting.synonyms import SYNONYMS, draw_synonyms, exchangeable

K = 6
CLASS = {
    word: kind
    for kind, words in {
        "D": lexicon.NEUTRAL_DETERMINERS + sum(lexicon.INFORMATIVE_DETERMINERS, ()),
        "A": lexicon.ADJECTIVES,
        "P": lexicon.PREPOSITIONS,
        "Adv": lexicon.ADVERBS,
        "V": lexicon.STEMS,
        "N": sum(lexicon.NOUNS + lexicon.OBJECT_NOUNS, ()),
    }.items()
    for word in words
}


@pytest.fixture(scope="module")
def made(dataset):
    return variants(dataset, REWRITINGS, K)


def words_of(dataset, tokens):
    return tuple(dataset.tokens[token] for token in tokens if token)


def rows(dataset, made, kind):
    """(row, its words, a variant's tokens, its words, its query) of all that exist."""
    tokens, query = made[kind]
    for row, place in np.argwhere(query >= 0):
        own = words_of(dataset, dataset.splits["train"].tokens[row])
        yield row, own, tokens[row, place], words_of(dataset, tokens[row, place]), query[row, place]


def placed(dataset, row, text):
    """One variant of one training row, as `check_variants` takes it."""
    n, length = dataset.splits["train"].tokens.shape
    tokens, query, words = (
        np.zeros((n, 1, length), np.int32),
        np.full((n, 1), -1, np.int32),
        text.split(),
    )
    tokens[row, 0, : len(words)] = [dataset.tokens.index(word) for word in words]
    query[row, 0] = next(place for place, word in enumerate(words) if word in lexicon.STEMS)
    return tokens, query


@pytest.mark.parametrize("kind", REWRITINGS)
def test_shapes_and_padding(dataset, made, kind):
    tokens, query = made[kind]
    n, length = dataset.splits["train"].tokens.shape
    assert (
        tokens.shape == (n, K, length)
        and query.shape == (n, K)
        and tokens.dtype == query.dtype == np.int32
    )
    assert ((query >= 0) == (tokens != 0).any(-1)).all()
    assert (np.diff((query >= 0).astype(int), axis=1) <= 0).all()  # those that exist come first
    assert 0.5 < (query[:, 0] >= 0).mean()


@pytest.mark.parametrize("kind", REWRITINGS)
def test_subject_verb_answer_and_offset_stay(dataset, made, kind):
    train = dataset.splits["train"]
    for row, own, tokens, words, query in rows(dataset, made, kind):
        subject, stem = (
            dataset.tokens[train.tokens[row, place]]
            for place in (train.cues[row, 0], train.query_position[row])
        )
        assert words != own and dataset.tokens[tokens[query]] == stem and subject in words
        assert (
            np.flatnonzero(tokens)[0] == np.flatnonzero(train.tokens[row])[0]
        )  # as long as the sentence, so it fits
        number = next(
            n for forms in lexicon.NOUNS for n, form in enumerate(forms) if form == subject
        )
        assert dataset.outputs[train.label[row]] == lexicon.VERBS[lexicon.STEMS.index(stem)][number]


@pytest.mark.parametrize("kind", REWRITINGS)
def test_nothing_held_out_is_in_a_variant(dataset, made, kind):
    others = {
        (words_of(dataset, tokens), label)
        for name, split in dataset.splits.items()
        if name != "train"
        for tokens, label in zip(split.tokens, split.label)
    }
    held_out_frames = {
        tuple(slot.rstrip("'") for slot in FRAMES[name].slots)
        for name in ("two_adjectives", "adjective_adverb", "adverb_object", "attractor", "fronted")
    }
    train = dataset.splits["train"]
    count = 0
    for row, _, _, words, _ in rows(dataset, made, kind):
        assert (words, train.label[row]) not in others
        assert tuple(CLASS[word] for word in words) not in held_out_frames
        count += 1
    assert count > 200


@pytest.mark.parametrize("kind", REWRITINGS)
def test_variants_of_a_sentence_differ(dataset, made, kind):
    seen = [(row, words) for row, _, _, words, _ in rows(dataset, made, kind)]
    assert len(set(seen)) == len(seen)


def test_a_synonym_stays_in_its_class_and_leaves_subject_and_verb(dataset, made):
    train, changed = dataset.splits["train"], set()
    for row, _own, tokens, words, _ in rows(dataset, made, "synonym"):
        cues, query = train.cues[row], train.query_position[row]
        for place in np.flatnonzero(tokens != train.tokens[row]):
            before, after = (dataset.tokens[x] for x in (train.tokens[row, place], tokens[place]))
            assert place not in (cues[0], query)
            assert any(before in group and after in group for group in SYNONYMS)
            changed.add(CLASS[before])
        nouns = [word for word in words if CLASS[word] == "N"]
        assert len(
            {
                next(
                    i
                    for i, forms in enumerate(lexicon.NOUNS + lexicon.OBJECT_NOUNS)
                    if noun in forms
                )
                for noun in nouns
            }
        ) == len(nouns)
    assert changed == {"D", "A", "P", "Adv", "N"}


def test_synonym_classes_keep_what_a_determiner_tells():
    def tells(word):
        return [word in words for words in lexicon.INFORMATIVE_DETERMINERS]

    for group in SYNONYMS:
        assert len({CLASS[word] for word in group}) == 1 and all(
            tells(word) == tells(group[0]) for word in group
        )
    flat = [word for group in SYNONYMS for word in group]
    assert len(set(flat)) == len(flat) == len(CLASS) - len(lexicon.STEMS)


@pytest.mark.parametrize(
    "text",
    [
        "a cat SIT",
        "the big cat SIT",
        "this dog rarely RUN",
        "a big red dog SIT",
        "the cats SIT near two dogs",
    ],
)
def test_synonyms_are_drawn_until_there_are_no_more(text):
    words = tuple(text.split())
    choices = exchangeable(words)
    options = [(word, *choices.get(place, ())) for place, word in enumerate(words)]
    every = {
        new
        for new in itertools.product(*options)
        if len({w for w in new if w in lexicon.ADJECTIVES}) == text.count("big") + text.count("red")
    }
    drawn = list(draw_synonyms(words, np.random.default_rng(0)))
    assert len(set(drawn)) == len(drawn) and set(drawn) == every - {words}


def test_each_word_is_exchanged_half_of_the_time():
    words, rng = ("the", "big", "cat", "SIT"), np.random.default_rng(1)
    first = [next(draw_synonyms(words, rng)) for _ in range(3000)]
    shares = [np.mean([new[place] != words[place] for new in first]) for place in (0, 1)]
    np.testing.assert_allclose(
        shares, 2 / 3, atol=0.05
    )  # 1/2, given that one of the two is exchanged
    assert set(np.unique([new[0] for new in first])) == set(lexicon.NEUTRAL_DETERMINERS)


def test_a_paraphrase_has_the_same_words(dataset, made):
    for _, own, _, words, _ in rows(dataset, made, "paraphrase"):
        assert sorted(own) == sorted(words)


def test_kinds_do_not_move_one_another_and_seeds_do(dataset, made, monkeypatch):
    for kind in REWRITINGS:
        for array, again in zip(made[kind], variants(dataset, [kind], K)[kind]):
            np.testing.assert_array_equal(array, again)
    monkeypatch.setitem(REWRITINGS, "again", REWRITINGS["synonym"])
    assert (
        variants(dataset, ["again"], K)["again"][0] != made["synonym"][0]
    ).any()  # the kind is part of the key
    moved = variants(dataclasses.replace(dataset, seed=8), ["synonym"], K)["synonym"][0]
    assert (moved != made["synonym"][0]).any()


def test_a_longer_variant_is_moved_to_the_left_until_it_fits(monkeypatch):
    dataset = source.SOURCE.preview(max_offset=5, num_train=64, num_eval=8)

    def longer(words, rng):
        return iter([("often", words[0], "big", *words[1:])] if len(words) == 6 else [])

    monkeypatch.setitem(REWRITINGS, "longer", longer)
    tokens, query = variants(dataset, ["longer"], 1)["longer"]
    train, shifted = dataset.splits["train"], 0
    for row in np.flatnonzero(query[:, 0] >= 0):
        offset = np.flatnonzero(train.tokens[row])[0]
        assert np.flatnonzero(tokens[row, 0])[0] == min(offset, 12 - 8)
        assert tokens[row, 0, query[row, 0]] == train.tokens[row, train.query_position[row]]
        shifted += offset == 5
    assert shifted


def test_works_with_few_verbs_many_verbs_and_disambiguating_frames():
    for settings in (
        {"verbs_per_noun": 1},
        {"verbs_per_noun": 11},
        {"disambiguating_rate": 0.2},
        {"neutral_rate": 1.0},
    ):
        dataset = source.SOURCE.preview(num_train=64, num_eval=64, **settings)
        assert all(
            (query[:, 0] >= 0).any() for _, query in variants(dataset, REWRITINGS, 2).values()
        )


# --- planted leaks ---


def plain_row(dataset):
    return int(
        np.flatnonzero(dataset.splits["train"].template == dataset.templates.index("plain"))[0]
    )


def test_a_planted_frame_is_found(dataset):
    row = plain_row(dataset)
    determiner, noun, stem = words_of(dataset, dataset.splits["train"].tokens[row])
    for text, frame in (
        (f"{determiner} big red {noun} {stem}", "two_adjectives"),
        (f"on the mat {determiner} {noun} {stem}", "fronted"),
        (f"{determiner} {noun} on the mat {stem}", "attractor"),
        (f"{determiner} big {noun} often {stem}", "adjective_adverb"),
    ):
        with pytest.raises(
            LeakError, match=f"synonym: the variant '{text}' of .* has the frame {frame}"
        ):
            check_variants(dataset, "synonym", *placed(dataset, row, text))


def test_a_planted_pair_is_found(dataset):
    split, row = dataset.splits["recombination"], plain_row(dataset)
    text = dataset.sentence(
        "recombination", int(np.flatnonzero(split.template == dataset.templates.index("plain"))[0])
    )
    with pytest.raises(LeakError, match="has the pair"):
        check_variants(dataset, "paraphrase", *placed(dataset, row, text))


def test_a_planted_pair_in_another_order_is_found(dataset):
    determiner, noun, stem = dataset.sentence(
        "recombination",
        int(
            np.flatnonzero(
                dataset.splits["recombination"].template == dataset.templates.index("plain")
            )[0]
        ),
    ).split()
    with pytest.raises(LeakError, match=f"has the pair .* {stem}"):
        check_variants(
            dataset,
            "paraphrase",
            *placed(dataset, plain_row(dataset), f"{stem} {determiner} {noun}"),
        )


def test_a_planted_sentence_of_another_split_is_found_only_with_its_answer(dataset):
    split, train = dataset.splits["validation"], dataset.splits["train"]
    labels = {int(label): row for row, label in enumerate(train.label)}
    row = next(row for row, label in enumerate(split.label) if int(label) in labels)
    text = dataset.sentence("validation", row)
    with pytest.raises(LeakError, match="is a sentence of another split"):
        check_variants(dataset, "synonym", *placed(dataset, labels[int(split.label[row])], text))
    other = next(index for index, label in enumerate(train.label) if label != split.label[row])
    with pytest.raises(ValueError, match="has another answer"):
        check_variants(dataset, "synonym", *placed(dataset, other, text))


def test_a_planted_nonce_word_is_found(dataset):
    stem = words_of(dataset, dataset.splits["train"].tokens[plain_row(dataset)])[-1]
    with pytest.raises(LeakError, match="has the word dax"):
        check_variants(dataset, "synonym", *placed(dataset, plain_row(dataset), f"a dax {stem}"))


def test_a_query_elsewhere_is_found(dataset):
    row = plain_row(dataset)
    tokens, query = placed(dataset, row, dataset.sentence("train", row))
    check_variants(dataset, "synonym", tokens, query)
    query[row, 0] = 0
    with pytest.raises(ValueError, match="read out at"):
        check_variants(dataset, "synonym", tokens, query)


def test_a_leaking_kind_is_stopped(dataset, monkeypatch):
    monkeypatch.setitem(
        REWRITINGS,
        "leaking",
        lambda words, rng: iter([("on", "the", "mat", *words)] if len(words) == 3 else []),
    )
    with pytest.raises(LeakError, match="leaking: .* has the frame fronted"):
        variants(dataset, ["leaking"], 1)


def test_mistakes_are_said(dataset):
    with pytest.raises(
        ValueError,
        match="'antonym' is no kind of variant; allowed: synonym, paraphrase, back_translation",
    ):
        variants(dataset, ["antonym"], 1)
    with pytest.raises(ValueError, match="num is 0"):
        variants(dataset, ["synonym"], 0)
    with pytest.raises(
        ValueError, match="data set modn has no grammar of variants; allowed: catsat"
    ):
        variants(dataclasses.replace(dataset, name="modn"), ["synonym"], 1)


def test_kinds_by_data_set():
    assert (
        SOURCES["catsat"].rewritings
        == tuple(REWRITINGS)
        == ("synonym", "paraphrase", "back_translation")
        and SOURCES["modn"].rewritings == ()
    )

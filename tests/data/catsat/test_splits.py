"""What each split of CATSAT holds, and that nothing held out leaks."""

import dataclasses

import numpy as np
import pytest

from jaxreg.data import LeakError
from jaxreg.data.cache import _digest
from jaxreg.data.catsat import grammar, lexicon
from jaxreg.data.catsat.grammar import NONCE_IDS, TEMPLATES
from jaxreg.data.catsat.splits import (
    SPLIT_PLANS,
    SPLITS,
    Settings,
    check_leaks,
    draw_pairs,
    draw_splits,
)

SETTINGS = Settings(seed=7)


@pytest.fixture(scope="module")
def splits():
    return draw_splits(SETTINGS)


def frames(split):
    return {
        TEMPLATES[index]: count for index, count in enumerate(np.bincount(split.template)) if count
    }


def contents(split):
    return [
        (tuple(row[row > 0].tolist()), label)
        for row, label in zip(split.tokens, split.label.tolist())
    ]


def pairs(split):
    rows = np.arange(len(split))
    noun = {int(token): index for row in grammar.NOUN_IDS for index, token in enumerate(row)}
    return {
        (noun[subject], stem)
        for subject, stem in zip(
            split.tokens[rows, split.cues[:, 0]].tolist(),
            split.tokens[rows, split.query_position].tolist(),
        )
    }


def planted(splits, name, tokens_from, row=0):
    """The splits with one row of `name` replaced by a row of another."""
    fields = {}
    for field, array in splits[name].arrays().items():
        fields[field] = array.copy()
        fields[field][0] = getattr(splits[tokens_from], field)[row]
    return {**splits, name: dataclasses.replace(splits[name], **fields)}


def test_frames_have_equal_shares(splits):
    quarter = dict.fromkeys(grammar.TRAINING_FRAMES, 64)
    assert frames(splits["train"]) == quarter
    for name in ("validation", "recombination", "novel_word", "novel_word_neutral"):
        assert frames(splits[name]) == dict.fromkeys(quarter, 128), name
    assert frames(splits["template"]) == {
        "two_adjectives": 172,
        "adjective_adverb": 170,
        "adverb_object": 170,
    }
    assert (
        frames(splits["attractor"]) == frames(splits["attractor_congruent"]) == {"attractor": 512}
    )
    assert frames(splits["fronted"]) == {"fronted": 512}


@pytest.mark.parametrize("k", [1, 2, 4, 8, 11])
def test_every_split_is_full_and_distinct(k):
    splits = draw_splits(Settings(seed=3, verbs_per_noun=k))
    check_leaks(splits, Settings(seed=3, verbs_per_noun=k))
    assert tuple(splits) == SPLITS
    assert frames(splits["train"]) == dict.fromkeys(grammar.TRAINING_FRAMES, 64)
    for name, split in splits.items():
        assert len(set(contents(split))) == len(split) == (256 if name == "train" else 512), name
        assert (split.label % 2).sum() == len(split) // 2, name
    for name in ("train", "validation", "recombination"):
        tags = splits[
            name
        ].tags  # each of 2 numbers x 4 frames rounds its share to a neighboring whole number
        assert abs(tags[:, 0].sum() - 0.3 * len(tags)) < 8, name
    assert len(pairs(splits["train"])) <= 12 * k and not pairs(splits["train"]) & pairs(
        splits["recombination"]
    )
    assert pairs(splits["validation"]) | pairs(splits["template"]) <= {
        (noun, grammar.STEM_IDS[verb]) for noun, verb in map(tuple, trained_pairs(3, k))
    }


def trained_pairs(seed, k):
    return draw_pairs(Settings(seed=seed, verbs_per_noun=k))["trained"].tolist()


def test_columns_point_at_the_words(splits):
    determiners = lexicon.ids(lexicon.NEUTRAL_DETERMINERS)
    for name, split in splits.items():
        rows = np.arange(len(split))
        noun, determiner = (split.tokens[rows, split.cues[:, cue]] for cue in (0, 1))
        stem, number = (
            split.tokens[rows, split.query_position] - grammar.STEM_IDS[0],
            split.label % 2,
        )
        np.testing.assert_array_equal(split.label // 2, stem)
        np.testing.assert_array_equal(split.foil, split.label ^ 1)
        assert np.isin(noun, grammar.SUBJECT_IDS).all()
        if SPLIT_PLANS[name].pairs != "novel":
            np.testing.assert_array_equal(np.isin(noun, grammar.NOUN_IDS[1]), number == 1)
        np.testing.assert_array_equal(split.tags[:, 0], np.isin(determiner, determiners))
        np.testing.assert_array_equal(split.tags[:, 0], ~split.tags[:, 1])
        plural = np.isin(determiner, lexicon.ids(lexicon.INFORMATIVE_DETERMINERS[1]))
        np.testing.assert_array_equal(plural[split.tags[:, 1]], number[split.tags[:, 1]] == 1)


def test_sentences_start_at_offsets_0_to_3(splits):
    for name, split in splits.items():
        starts = np.argmax(split.tokens > 0, axis=1)
        assert np.bincount(starts, minlength=4).min() > len(split) / 8 and starts.max() == 3, name
        inside = (split.tokens > 0).sum(1)  # one unbroken run of words
        np.testing.assert_array_equal(
            np.argmax(split.tokens[:, ::-1] > 0, axis=1) + inside + starts, 12
        )


def test_attractor_and_its_twin_differ_in_the_object_only(splits):
    one, two = splits["attractor"], splits["attractor_congruent"]
    np.testing.assert_array_equal(one.label, two.label)
    differ = one.tokens != two.tokens
    assert set(differ.sum(1).tolist()) == {1, 2}
    rows = np.arange(len(one))
    numbers = [
        np.isin(split.tokens[rows, split.query_position - 1], plural_nouns())
        for split in (one, two)
    ]
    np.testing.assert_array_equal(
        numbers[0], one.label % 2 == 0
    )  # the nearest noun: the other number, the same
    np.testing.assert_array_equal(numbers[1], one.label % 2 == 1)


def plural_nouns():
    return lexicon.ids(tuple(plural for _, plural in lexicon.NOUNS + lexicon.OBJECT_NOUNS))


def test_novel_words_are_only_in_their_splits(splits):
    for name, split in splits.items():
        novel = np.isin(split.tokens, NONCE_IDS).sum(1)
        assert (novel == (1 if name.startswith("novel") else 0)).all(), name
    assert splits["novel_word"].tags[:, 1].all() and splits["novel_word_neutral"].tags[:, 0].all()
    assert len(np.intersect1d(splits["novel_word"].tokens, NONCE_IDS)) == 32


def test_seeds_decide_everything(splits):
    assert _digest(draw_splits(SETTINGS)) == _digest(splits)
    other = draw_splits(Settings(seed=8))
    assert all(set(contents(other[name])) != set(contents(splits[name])) for name in SPLITS)
    assert trained_pairs(7, 4) != trained_pairs(8, 4)


def test_splits_do_not_move_one_another(splits):
    more = draw_splits(dataclasses.replace(SETTINGS, num_eval=600))
    np.testing.assert_array_equal(more["train"].tokens, splits["train"].tokens)
    more = draw_splits(dataclasses.replace(SETTINGS, num_train=300))
    for name in SPLITS[2:]:
        np.testing.assert_array_equal(more[name].tokens, splits[name].tokens)


def test_the_draw_belongs_to_the_grammar_version():
    """If this fails, the generator draws other sentences than before: raise GRAMMAR_VERSION, then
    write it here.
    """
    digest = _digest(draw_splits(Settings(seed=0, num_train=16, num_eval=16)))
    assert (grammar.GRAMMAR_VERSION, digest[:16]) == (1, "deb12fdfd9581413")


def test_disambiguating_frames():
    settings = Settings(seed=7, disambiguating_rate=0.1)
    splits = draw_splits(settings)
    check_leaks(splits, settings)
    assert abs(frames(splits["train"])["disambiguating"] - 25.6) < 2
    split = splits["train"]
    rows = np.flatnonzero(split.template == TEMPLATES.index("disambiguating"))
    nearest = split.tokens[rows, split.query_position[rows] - 2]  # behind it stands the adverb
    np.testing.assert_array_equal(np.isin(nearest, plural_nouns()), split.label[rows] % 2 == 0)
    assert "disambiguating" not in frames(draw_splits(SETTINGS)["train"])


def test_many_training_sentences_leave_validation_every_frame():
    splits = draw_splits(Settings(seed=1, num_train=8000))
    assert len(set(contents(splits["train"]))) == 8000
    assert not set(contents(splits["train"])) & set(contents(splits["validation"]))
    assert (
        min(frames(splits["validation"]).values()) >= 100 and len(frames(splits["validation"])) == 4
    )


@pytest.mark.parametrize(
    "source, said",
    [
        ("recombination", "train has the pair .* not trained"),
        ("attractor", "train has the frame attractor"),
        ("novel_word", "train has the pair .* not trained"),
    ],
)
def test_planted_leaks_are_found(splits, source, said):
    check_leaks(splits, SETTINGS)
    with pytest.raises(LeakError, match=said):
        check_leaks(planted(splits, "train", source), SETTINGS)


def test_a_trained_pair_among_the_held_out_is_found(splits):
    with pytest.raises(LeakError, match="recombination has the pair .* not held_out"):
        check_leaks(planted(splits, "recombination", "train"), SETTINGS)


def test_a_nonce_object_in_training_is_found(splits):
    leaky = planted(splits, "train", "train")
    row = np.flatnonzero(leaky["train"].template == TEMPLATES.index("object"))[0]
    leaky["train"].tokens[row, leaky["train"].query_position[row] + 3] = NONCE_IDS[0]
    with pytest.raises(LeakError, match="train has a nonce word"):
        check_leaks(leaky, SETTINGS)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"verbs_per_noun": 12}, "data.verbs_per_noun is 12; .*no held-out pair"),
        ({"verbs_per_noun": 0}, "data.verbs_per_noun"),
        ({"neutral_rate": 1.5}, "data.neutral_rate"),
        ({"neutral_rate": float("nan")}, "data.neutral_rate"),
        ({"num_train": 0}, "data.num_train"),
        ({"length": 9}, r"data.length is 9; .*7 .*max_offset 3"),
        ({"max_offset": -1}, "data.max_offset"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        Settings(**{"seed": 0, **change})


def test_all_mistakes_come_at_once():
    with pytest.raises(ValueError) as mistakes:
        Settings(seed=0, verbs_per_noun=12, num_eval=0, neutral_rate=-1)
    assert len(str(mistakes.value).splitlines()) == 3


@pytest.mark.parametrize("field", ["num_train", "num_eval"])
def test_too_many_sentences_are_refused(field):
    with pytest.raises(
        ValueError, match=f"data.{field} is 200000; .* too few distinct sentences .*at most about"
    ):
        draw_splits(Settings(seed=0, verbs_per_noun=1, **{field: 200_000}))


def test_the_content_hash_knows_every_setting():
    changes = {
        "seed": 1,
        "verbs_per_noun": 5,
        "neutral_rate": 0.4,
        "num_train": 8,
        "num_eval": 9,
        "max_offset": 1,
        "length": 13,
        "disambiguating_rate": 0.2,
    }
    assert set(changes) == {field.name for field in dataclasses.fields(Settings)}
    base = Settings(seed=0)
    hashes = {
        dataclasses.replace(base, **{name: value}).content_hash() for name, value in changes.items()
    }
    assert len(hashes | {base.content_hash()}) == len(changes) + 1
    assert Settings(seed=0, disambiguating_rate=0).content_hash() == base.content_hash()


@pytest.mark.parametrize(
    "module, name, value", [(grammar, "GRAMMAR_VERSION", 99), (lexicon, "ADVERBS", ("now",))]
)
def test_the_content_hash_knows_the_grammar(monkeypatch, module, name, value):
    before = SETTINGS.content_hash()
    monkeypatch.setattr(module, name, value)
    assert SETTINGS.content_hash() != before

"""AGREE's splits: what each holds, that nothing held out leaks, that a planted leak is found."""

import numpy as np
import pytest

from jaxreg.data import LeakError, Split
from jaxreg.data.agree import source as agree
from jaxreg.data.agree.grammar import LEXICON
from jaxreg.data.agree.source import OUTPUTS, TEMPLATES, TOKENS, Settings, check_leaks, draw_splits
from jaxreg.data.cache import _digest

SETTINGS = Settings(seed=7)
FORM = {
    form: number for number, forms in enumerate((OUTPUTS[::2], OUTPUTS[1::2])) for form in forms
}
NOUNS = {
    word: (noun, number)
    for key in ("main_subjects", "embedded_subjects", "inanimate_subjects", "sentential_subjects")
    for noun in LEXICON[key]
    for number, word in enumerate((noun, noun + "s"))
}


@pytest.fixture(scope="module")
def splits():
    return draw_splits(SETTINGS)


@pytest.fixture(scope="module")
def dataset(splits):
    return agree.SOURCE.dataset(splits, SETTINGS)


def words_of(split, row):
    return [TOKENS[token] for token in split.tokens[row] if token]


def phrase_at(split, row):
    """The target's verb phrase, by looking at the words: the longest of the lexicon that fits."""
    start = split.query_position[row] - np.flatnonzero(split.tokens[row])[0]
    words = words_of(split, row)
    said = [OUTPUTS[min(split.label[row], split.foil[row])], *words[start + 1 :]]
    options = [
        phrase
        for key in ("main_verbs", "embedded_verbs", "inanimate_verbs", "long_verb_phrases")
        for phrase in LEXICON[key]
    ]
    return max(
        (phrase for phrase in options if said[: len(phrase.split())] == phrase.split()), key=len
    )


def pair_of(split, row):
    return NOUNS[TOKENS[split.tokens[row, split.cues[row, 0]]]][0], phrase_at(split, row)


def planted(splits, name, source, row=0):
    arrays = {field: array.copy() for field, array in splits[name].arrays().items()}
    for field, array in arrays.items():
        array[0] = splits[source].arrays()[field][row]
    return {**splits, name: Split(**arrays)}


def test_the_answer_is_the_number_of_the_subject(splits):
    for name, split in splits.items():
        for row in range(len(split)):
            right, wrong = OUTPUTS[split.label[row]], OUTPUTS[split.foil[row]]
            _, number = NOUNS[TOKENS[split.tokens[row, split.cues[row, 0]]]]
            assert FORM[right] == number == 1 - FORM[wrong], (name, words_of(split, row))
            stem = TOKENS[split.tokens[row, split.query_position[row]]]
            assert stem == (
                "BE" if {right, wrong} == {"is", "are"} else (right if number else wrong).upper()
            )


def test_cues_and_tags_are_what_they_say(splits):
    for _name, split in splits.items():
        for row in range(0, len(split), 3):
            noun, determiner, verb, other = split.cues[row]
            tokens, frame = split.tokens[row], TEMPLATES[split.template[row]]
            assert TOKENS[tokens[determiner]] == "the" and determiner == noun - 1
            assert (verb >= 0) == (frame in ("vp_coord", "long_vp_coord", "subj_rel")), frame
            if verb >= 0:
                assert FORM[TOKENS[tokens[verb]]] == FORM[OUTPUTS[split.label[row]]]
            assert (other >= 0) == (frame not in ("simple_agrmt", "vp_coord", "long_vp_coord"))
            between = noun < other < split.query_position[row]
            same = other >= 0 and NOUNS[TOKENS[tokens[other]]][1] == NOUNS[TOKENS[tokens[noun]]][1]
            assert split.tags[row].tolist() == [
                between and not same,
                between and same,
                len(words_of(split, row)) == 3,
            ]


def test_trained_frames_and_unseen_ones(splits, dataset):
    seen = {TEMPLATES[t] for t in splits["train"].template}
    assert (
        len(seen) == 8
        and not seen & set(agree.HELD_OUT["relatives"])
        and seen | set(agree.HELD_OUT["relatives"]) == set(TEMPLATES)
    )
    for name in ("validation", "recombination"):
        assert {TEMPLATES[t] for t in splits[name].template} == seen
    assert {TEMPLATES[t] for t in splits["template"].template} == set(agree.HELD_OUT["relatives"])
    by_frame = [
        dataset.view_weights(view)
        for view in dataset.views
        if view.subset and view.subset.startswith("template:")
    ]
    np.testing.assert_array_equal(sum(by_frame), 1)


def test_pairs_of_training_are_never_asked_in_recombination(splits):
    pairs = {
        name: {pair_of(split, row) for row in range(len(split))} for name, split in splits.items()
    }
    assert not pairs["train"] & pairs["recombination"]
    assert len(pairs["recombination"]) > 120, "of 160"
    assert pairs["validation"] | pairs["template"] <= trained(SETTINGS)
    per_noun = {
        noun: {verb for n, verb in trained(SETTINGS) if n == noun} for noun, _ in pairs["train"]
    }
    assert {
        len(verbs & set(LEXICON["embedded_verbs"]))
        for noun, verbs in per_noun.items()
        if noun in LEXICON["embedded_subjects"]
    } == {3}


def trained(settings):
    return agree._trained_pairs(settings)


def test_every_word_that_is_asked_is_trained(splits):
    known = set(np.unique(splits["train"].tokens))
    for name in ("validation", "recombination"):
        assert not set(np.unique(splits[name].tokens)) - known, name
    unseen = {TOKENS[token] for token in set(np.unique(splits["template"].tokens)) - known}
    assert not unseen - set(FORM), (
        "verbs inside a relative clause have their forms shown only there"
    )
    nouns = [TOKENS[t] for t in splits["train"].tokens[np.arange(512), splits["train"].cues[:, 0]]]
    counts = np.unique(nouns, return_counts=True)[1]
    assert len(counts) == 48 and counts.min() >= 4, "each form of each subject, several times"


def test_numbers_are_balanced_and_sentences_distinct(splits):
    for name, split in splits.items():
        plural = [FORM[OUTPUTS[label]] for label in split.label]
        assert abs(np.mean(plural) - 0.5) < 0.03, name
        rows = {(*tuple(words_of(split, row)), int(split.label[row])) for row in range(len(split))}
        assert len(rows) == len(split), name


def test_unseen_pairs_come_in_both_numbers_alike(splits):
    """With the verb cut from the only words that tell, a model then scores exactly one half on the
    bare sentences, but for places.
    """
    split = splits["recombination"]
    bare = np.flatnonzero(split.tags[:, 2])
    sides = {
        number: sorted(
            pair_of(split, row) for row in bare if FORM[OUTPUTS[split.label[row]]] == number
        )
        for number in (0, 1)
    }
    assert len(bare) > 20 and sides[0] == sides[1]


def test_offsets_and_length(splits):
    for name, split in splits.items():
        starts = np.argmax(split.tokens > 0, axis=1)
        assert set(starts.tolist()) == {0, 1, 2, 3}, name
        inside = (split.tokens > 0).sum(1)
        np.testing.assert_array_equal(
            np.argmax(split.tokens[:, ::-1] > 0, axis=1) + inside + starts, 12
        )


def test_the_draw_belongs_to_the_version():
    """If this fails, the generator draws other sentences than before: raise VERSION, then write it
    here.
    """
    digest = _digest(draw_splits(Settings(seed=0, num_train=16, num_eval=16)))
    assert (agree.VERSION, digest[:16]) == (2, "0f0eec5f6dc0b6b0")


def test_splits_do_not_move_one_another(splits):
    more = draw_splits(Settings(seed=7, num_eval=300))
    np.testing.assert_array_equal(more["train"].tokens, splits["train"].tokens)
    more = draw_splits(Settings(seed=7, num_train=400))
    for name in ("recombination", "template"):
        np.testing.assert_array_equal(more[name].tokens, splits[name].tokens)


@pytest.mark.short_cases()
@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_every_number_of_verbs_per_noun_gives_full_splits(k):
    settings = Settings(seed=1, verbs_per_noun=k)
    splits = draw_splits(settings)
    check_leaks(splits, settings)
    assert {len(split) for split in splits.values()} == {512}


def test_only_frames_without_that_held_out():
    settings = Settings(seed=1, held_out="no_comp")
    dataset = agree.SOURCE.dataset(draw_splits(settings), settings)
    assert {TEMPLATES[t] for t in dataset.splits["template"].template} == set(
        agree.HELD_OUT["no_comp"]
    )
    names = {view.name for view in dataset.views}
    assert "template_subj_rel" not in names and "template_obj_rel_no_comp_across_anim" in names


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "target, source, said",
    [
        ("train", "template", "train has the frame"),
        ("validation", "template", "validation has the frame"),
        ("template", "train", "template has the frame"),
        ("train", "recombination", "train has the pair .* held out"),
        ("validation", "recombination", "validation has the pair .* not trained"),
        ("recombination", "train", "train has the pair .* held out"),
    ],
)
def test_planted_leaks_are_found(splits, target, source, said):
    check_leaks(splits, SETTINGS)
    with pytest.raises(LeakError, match=said):
        check_leaks(planted(splits, target, source), SETTINGS)


def test_a_sentence_that_is_none_of_its_frame_is_found(splits):
    leaky = planted(splits, "train", "train")
    leaky["train"].tokens[0] = np.roll(
        leaky["train"].tokens[0][leaky["train"].tokens[0] > 0], 1
    ).tolist() + [0] * int((leaky["train"].tokens[0] == 0).sum())
    with pytest.raises(LeakError, match="train has the sentence .* not of the frame"):
        check_leaks(leaky, SETTINGS)


def test_a_held_out_pair_of_a_verb_that_is_not_asked_is_found(splits):
    """The verb behind a relative clause is no target, and still must not show a pair that is held
    out.
    """
    row = next(
        r for r in range(512) if TEMPLATES[splits["train"].template[r]] == "obj_rel_within_anim"
    )
    leaky = planted(splits, "train", "train", row)
    tokens = leaky["train"].tokens[0]
    noun = next(TOKENS[t] for t in tokens if t)  # the
    noun = [TOKENS[t] for t in tokens if t][1]
    wrong = next(
        verb
        for verb in LEXICON["main_verbs"]
        if " " not in verb and (NOUNS[noun][0], verb) not in trained(SETTINGS)
    )
    words = words_of(leaky["train"], 0)
    start, at = np.flatnonzero(tokens)[0], words.index(next(w for w in words if w.isupper())) + 1
    tokens[start + at :] = 0
    tokens[start + at] = TOKENS.index(wrong if NOUNS[noun][1] == 0 else wrong[:-1])
    with pytest.raises(LeakError, match=f"train has the pair {NOUNS[noun][0]} {wrong}, which is"):
        check_leaks(leaky, SETTINGS)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"verbs_per_noun": 8}, "data.verbs_per_noun is 8; it must be from 1 to 7"),
        ({"held_out": "all"}, "one of: relatives, no_comp"),
        (
            {"length": 11},
            r"data.length is 11; it must be at least 9 \(the longest sentence\) \+ max_offset 3",
        ),
        ({"num_train": 0}, "data.num_train"),
    ],
)
def test_impossible_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        Settings(**{"seed": 0, **change})


@pytest.mark.parametrize("field", ["num_train", "num_eval"])
def test_too_many_sentences_are_refused(field):
    with pytest.raises(
        ValueError,
        match=f"data.{field} is 200000; there are too few distinct sentences for it: at most",
    ):
        draw_splits(Settings(seed=0, **{field: 200_000}))

"""What sentences mean, their paraphrases, and Ostan: both directions against every sentence of the
grammar.
"""

import itertools

import pytest

from jaxreg.data.catsat import lexicon
from jaxreg.data.catsat.grammar import FRAMES, TEMPLATE_FRAMES, TRAINING_FRAMES
from jaxreg.data.catsat.rewriting.language import (
    NOUN_OF,
    PLURAL,
    SHARED,
    TIE,
    VERB_OF,
    back,
    round_trips,
    translate,
)
from jaxreg.data.catsat.rewriting.paraphrases import PARAPHRASES, paraphrases
from jaxreg.data.catsat.rewriting.sentence import TEMPLATE_OF, meaning_of, realize

ALL_NOUNS = lexicon.NOUNS + lexicon.OBJECT_NOUNS
OPEN = {"A": lexicon.ADJECTIVES, "P": lexicon.PREPOSITIONS, "Adv": lexicon.ADVERBS}


def determiners(number):
    return lexicon.NEUTRAL_DETERMINERS + lexicon.INFORMATIVE_DETERMINERS[number]


def every_sentence(frame, noun, verb):
    """All sentences of a frame with this subject and verb, by the rules of the grammar, as (words,
    number, object number).
    """
    for number, other in itertools.product((0, 1), (0, 1)):
        if FRAMES[frame].other_number and other == number:
            continue
        words = OPEN | {
            "D": determiners(number),
            "N": (ALL_NOUNS[noun][number],),
            "V": (lexicon.STEMS[verb],),
            "D'": determiners(other),
            "N'": tuple(forms[other] for index, forms in enumerate(ALL_NOUNS) if index != noun),
        }
        if "N'" not in FRAMES[frame].slots and other:
            continue
        for sentence in itertools.product(*(words[slot] for slot in FRAMES[frame].slots)):
            if len({word for word in sentence if word in lexicon.ADJECTIVES}) == FRAMES[
                frame
            ].slots.count("A"):
                yield sentence, number, other


def slots_of(sentence, frame):
    return dict(zip(FRAMES[frame].slots, sentence))


@pytest.mark.parametrize("frame", FRAMES)
def test_meaning_is_read_off_the_slots(frame):
    for sentence, number, _ in itertools.islice(every_sentence(frame, 3, 5), 0, None, 97):
        meaning, slots = meaning_of(sentence), slots_of(sentence, frame)
        assert (meaning.noun, meaning.verb, meaning.determiner, meaning.adverb) == (
            slots["N"],
            slots["V"],
            slots["D"],
            slots.get("Adv"),
        )
        assert lexicon.OUTPUTS[meaning.label] == lexicon.VERBS[5][number]
        assert meaning.adjectives == tuple(
            word for word, slot in zip(sentence, FRAMES[frame].slots) if slot == "A"
        )
        phrase = meaning.phrase and (
            meaning.phrase.preposition,
            meaning.phrase.determiner,
            meaning.phrase.noun,
        )
        assert phrase == ((slots["P"], slots["D'"], slots["N'"]) if "P" in slots else None)
        assert meaning.attached == (frame in ("attractor", "disambiguating"))
        assert realize(meaning, FRAMES[frame].slots) == sentence


@pytest.mark.parametrize(
    "text",
    [
        "the cat",
        "SIT",
        "the cat SIT RUN",
        "the cat the dog SIT",
        "cat SIT",
        "the cat SIT on mat",
        "often the cat rarely SIT",
        "the cat SIT on",
    ],
)
def test_what_is_no_sentence_has_no_meaning(text):
    with pytest.raises(ValueError, match="sentence|phrase|determiner"):
        meaning_of(tuple(text.split()))


def test_no_two_frames_look_alike():
    assert len(TEMPLATE_OF) == len(FRAMES)


# --- paraphrases ---


@pytest.mark.parametrize("frame", TRAINING_FRAMES)
def test_paraphrases_say_the_same_in_another_frame_that_is_no_frame_of_the_data_set(frame):
    for sentence, *_ in itertools.islice(every_sentence(frame, 0, 0), 0, None, 61):
        found = paraphrases(sentence)
        assert len({sentence, *found}) == 1 + len(PARAPHRASES[frame]) >= 2
        for other in found:
            assert sorted(other) == sorted(sentence)
            assert meaning_of(other) == meaning_of(sentence)
            pattern = tuple(
                dict(zip(sentence, FRAMES[frame].slots))[word].rstrip("'") for word in other
            )
            assert pattern not in {
                tuple(slot.rstrip("'") for slot in known.slots) for known in FRAMES.values()
            }


def test_no_paraphrase_puts_a_noun_between_subject_and_verb_or_begins_with_a_preposition():
    for frame in itertools.chain(*PARAPHRASES.values()):
        slots = frame.split()
        between = slots[slice(*sorted((slots.index("N"), slots.index("V"))))]
        assert "N'" not in between and slots[0] != "P"


def test_paraphrases_by_hand():
    assert [" ".join(words) for words in paraphrases(("the", "cat", "often", "SIT"))] == [
        "often the cat SIT",
        "the cat SIT often",
        "often SIT the cat",
        "SIT the cat often",
    ]
    assert paraphrases(tuple("the cat SIT on two mats".split())) == (
        tuple("SIT the cat on two mats".split()),
    )
    assert paraphrases(tuple("the cat on the mats often SIT".split())) == ()


@pytest.mark.parametrize("frame", [*TEMPLATE_FRAMES, "attractor", "fronted"])
def test_held_out_frames_have_no_paraphrase(frame):
    assert paraphrases(next(every_sentence(frame, 0, 0))[0]) == ()


# --- Ostan ---


def test_the_lexicon_of_ostan_covers_every_word_once_and_confuses_no_classes():
    source = [word for words in SHARED.values() for word in words]
    expected = [
        *lexicon.NEUTRAL_DETERMINERS,
        *lexicon.INFORMATIVE_DETERMINERS[0],
        *lexicon.INFORMATIVE_DETERMINERS[1],
        *lexicon.ADJECTIVES,
        *lexicon.PREPOSITIONS,
        *lexicon.ADVERBS,
        *(singular for singular, _ in ALL_NOUNS),
    ]
    assert sorted(source) == sorted(expected)
    assert set(NOUN_OF) == {singular for singular, _ in lexicon.NOUNS} and set(VERB_OF) == set(
        lexicon.STEMS
    )
    targets = [*SHARED, *NOUN_OF.values(), *VERB_OF.values(), TIE]
    assert len(set(targets)) == len(targets)
    assert not any(
        word.removesuffix(PLURAL) in targets for word in targets if word.endswith(PLURAL)
    )


@pytest.mark.parametrize(
    ("text", "ostan"),
    [
        ("the cat SIT", "osu kat la"),
        ("my cats SIT", "osu katri mo"),
        ("these red dogs RUN", "kuru hunri dol du"),
        ("a king always WAIT", "zdu vek rex en"),
        ("your ship SIT behind two mats", "osu nav mo remri du tas"),
        ("our dogs on this journey often SIT", "osu vek hunri mo ze rem en ep"),
    ],
)
def test_translations_by_hand(text, ostan):
    assert " ".join(translate(tuple(text.split()))) == ostan
    assert tuple(text.split()) in back(tuple(ostan.split()))


def test_back_translations_by_hand():
    assert {" ".join(words) for words in back(("osu", "vek", "kat", "en"))} == {
        "a cat often SIT",
        "a cat always SIT",
        "this cat often SIT",
        "this cat always SIT",
    }


@pytest.mark.short_cases("plain")
@pytest.mark.parametrize("frame", [*TRAINING_FRAMES, "disambiguating"])
def test_back_is_the_exact_inverse_over_all_sentences_of_a_frame(frame):
    by_translation = {}
    for sentence, *_ in every_sentence(frame, 7, 2):
        by_translation.setdefault(translate(sentence), set()).add(sentence)
    for ostan, sentences in by_translation.items():
        found = back(ostan)
        assert len(found) == len(set(found)) and set(found) == sentences
        assert len({meaning_of(sentence).core for sentence in found}) == 1


@pytest.mark.parametrize("frame", TRAINING_FRAMES)
def test_round_trips_keep_number_subject_and_verb_and_give_variety(frame):
    variety, changed = 0, set()
    for sentence, number, other in itertools.islice(every_sentence(frame, 5, 1), 0, None, 7):
        for trip in round_trips(sentence):
            assert trip != sentence
            slots, new = slots_of(sentence, frame), slots_of(trip, frame)
            assert (new["N"], new["V"]) == (slots["N"], slots["V"])
            assert new["D"] in determiners(number) and (
                new["D"] in lexicon.NEUTRAL_DETERMINERS
            ) == (slots["D"] in lexicon.NEUTRAL_DETERMINERS)
            if "N'" in slots:
                assert new["N'"] in {forms[other] for forms in ALL_NOUNS} - set(
                    ALL_NOUNS[5]
                ) and new["D'"] in determiners(other)
            changed |= {slot for slot in slots if slots[slot] != new[slot]}
            variety += 1
    assert changed == set(FRAMES[frame].slots) - {"N", "V"} and variety


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kat la",
        "osu kat",
        "osu la kat",
        "osu kat la la",
        "osu kat la ze",
        "osu kat la rem la",
        "osu mat la",
        "osu kat la rem en ep ep",
        "osu kat la bes kat ep",
        "osu kat dol la rem en ep",
    ],
)
def test_what_is_no_sentence_of_ostan_is_refused(text):
    with pytest.raises(ValueError, match="no sentence of Ostan|no frame of CATSAT"):
        back(tuple(text.split()))


def test_nonce_words_have_no_translation():
    with pytest.raises(ValueError, match="'dax' has no word in Ostan"):
        translate(("a", "dax", "SIT"))

"""Sentences typed by a person."""

import pytest

from jaxreg.data import SOURCES
from jaxreg.data.catsat.encode import encode
from jaxreg.data.catsat.lexicon import OUTPUTS, TOKENS
from jaxreg.data.row import encode_row


def test_the_essays_sentence():
    encoded = encode("The cat sat on the mat.")
    assert encoded.words == ("the", "cat", "SIT", "on", "the", "mat")
    assert encoded.tokens.shape == (12,) and not encoded.tokens[6:].any()
    assert tuple(TOKENS[token] for token in encoded.tokens[:6]) == encoded.words
    assert encoded.query_position == 2 and encoded.cues == (1, 0)
    assert (OUTPUTS[encoded.singular], OUTPUTS[encoded.plural], OUTPUTS[encoded.label]) == (
        "sits",
        "sit",
        "sits",
    )


@pytest.mark.parametrize("verb", ["sit", "sits", "sat", "SAT"])
def test_every_form_of_a_verb_is_its_stem(verb):
    assert encode(f"a dog {verb}").words == ("a", "dog", "SIT")


@pytest.mark.parametrize(
    "text, cues, answer",
    [
        ("two dogs near a cat run", (1, 0), "run"),  # the first noun, not the nearest
        ("on the mats a cat sat", (4, 3), "sits"),  # unless the sentence starts with a preposition
        ("these big dax ran", (2, 0), "run"),  # a nonce word's number stands in its determiner
        ("cats sat", (0, -1), "sit"),
    ],
)
def test_subject_and_answer(text, cues, answer):
    encoded = encode(text)
    assert encoded.cues == cues and OUTPUTS[encoded.label] == answer


def test_without_a_verb_or_a_number():
    journey = encode("your journey")
    assert (journey.query_position, journey.singular, journey.plural, journey.label) == (
        -1,
        -1,
        -1,
        -1,
    )
    assert journey.cues == (1, 0)
    assert encode("the dax sat").label == -1


@pytest.mark.parametrize(
    "text, said",
    [
        ("the cot sat", "'cot' is not a word of CATSAT; the nearest is 'cat'"),
        ("the dog slepp", "'slepp'.*'slept'"),
        ("", "0 words"),
        ("the cat sat the dog ran", "2 verbs"),
        ("the " * 13, "13 words; 1 to 12 fit"),
    ],
)
def test_mistakes_are_told(text, said):
    with pytest.raises(ValueError, match=said):
        encode(text)


def test_length_is_the_rows_length():
    assert encode("the cat sat", length=5).tokens.shape == (5,)


@pytest.fixture(scope="module")
def agree():
    return SOURCES["agree"].preview(num_train=64, num_eval=32)


def test_a_row_of_a_data_set_is_found_with_its_answer(agree):
    split = agree.splits["recombination"]
    for row in range(5):
        found = encode_row(agree.sentence("recombination", row).upper(), agree)
        start = int((split.tokens[row] > 0).argmax())
        assert (
            found.words == tuple(agree.sentence("recombination", row).split())
            and found.label == found.singular == split.label[row]
        )
        assert (
            found.plural == split.foil[row]
            and found.query_position == split.query_position[row] - start
        )
        assert found.cues == tuple(
            place - start if place >= 0 else -1 for place in split.cues[row].tolist()
        )


def test_without_a_text_it_is_the_first_training_row(agree):
    assert encode_row(None, agree).words == tuple(agree.sentence("train", 0).split())
    text = SOURCES["text"].preview()
    row = text.splits["train"].tokens[0]
    found = encode_row(None, text)
    assert (
        found.words == tuple(text.tokens[token] for token in row[row > 0])
        and found.label == text.splits["train"].label[0]
    )
    typed = encode_row("an ant", text)
    assert typed.words == ("a", "n", " ", "a", "n", "t"), "characters, blanks too"


def test_words_that_are_no_row_have_no_answer(agree):
    found = encode_row("The bakers near the BAKERS", agree)
    assert (
        found.words == ("the", "bakers", "near", "the", "bakers")
        and found.query_position == found.label == -1
    )
    assert found.cues == (-1, -1, -1, -1) and found.tokens.shape == (12,)


@pytest.mark.parametrize(
    "text, said",
    [
        ("the bakkers", "'bakkers' is not a word of agree; the nearest is 'bakers'"),
        ("", "0 words"),
        ("the " * 13, "13 words; 1 to 12 fit"),
    ],
)
def test_words_that_a_data_set_lacks_are_told(agree, text, said):
    with pytest.raises(ValueError, match=said):
        encode_row(text, agree)

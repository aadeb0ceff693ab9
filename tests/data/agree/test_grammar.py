"""The 15 frames: with the published lexicon they give the published pairs, and sentences say what
they say.
"""

import collections
import hashlib
import itertools
import json
from pathlib import Path

import pytest

from jaxreg.data.agree import grammar as grammar
from jaxreg.data.agree.grammar import FRAMES, LEXICON

PUBLISHED = Path(__file__).parents[4] / "shared" / "fixtures" / "published.json"
MISSING = (
    f"the published lexicon is not there: {PUBLISHED.name} in the folder shared beside the project"
)


@pytest.fixture(scope="module")
def published():
    if not PUBLISHED.is_file():
        pytest.skip(MISSING)
    return json.loads(PUBLISHED.read_text())["marvin_linzen_2018"]


@pytest.mark.parametrize("name", list(FRAMES))
def test_the_published_pairs_come_out(published, name):
    """Duplicates would count twice in n and in the hash; there are none."""
    pairs = list(grammar.minimal_pairs(name, published["lexicon"]))
    case = published["cases"][name]
    assert len(pairs) == len(set(pairs)) == case["n"]
    lines = "\n".join(sorted(f"{right}\t{wrong}" for right, wrong in pairs))
    if "hash" in case:
        assert hashlib.sha256(lines.encode()).hexdigest()[:16] == case["hash"]


def test_all_of_the_published_cases_are_frames(published):
    assert set(published["cases"]) == set(FRAMES) and set(published["lexicon"]) == set(LEXICON)
    assert sum(case["n"] for case in published["cases"].values()) == published["total_pairs"]
    assert any("hash" in case for case in published["cases"].values())


def by_hand(name, lexicon):
    """The pairs of three frames, written out."""

    def s(word, number):
        return word + "s" if number else word

    def v(phrase, number):
        first, *rest = phrase.split()
        return " ".join([{"is": "are"}.get(first, first[:-1]) if number else first, *rest])

    subjects, verbs = lexicon["main_subjects"], lexicon["main_verbs"]
    for a, b in itertools.product((0, 1), (0, 1)):
        if name == "simple_agrmt" and b == 0:
            yield from (
                (f"the {s(n, a)} {v(w, a)}", f"the {s(n, a)} {v(w, 1 - a)}")
                for n in subjects
                for w in verbs
            )
        if name == "vp_coord" and b == 0:
            yield from (
                (
                    f"the {s(n, a)} {v(w, a)} and {v(u, a)}",
                    f"the {s(n, a)} {v(w, a)} and {v(u, 1 - a)}",
                )
                for n in subjects
                for w in verbs
                for u in verbs
                if u != w
            )
        if name == "obj_rel_within_inanim":
            yield from (
                (
                    f"the {s(i, b)} that the {s(n, a)} {v(w, a)} {v(u, b)}",
                    f"the {s(i, b)} that the {s(n, a)} {v(w, 1 - a)} {v(u, b)}",
                )
                for i in lexicon["inanimate_subjects"]
                for n in lexicon["embedded_subjects"]
                for w in lexicon["embedded_verbs"]
                for u in lexicon["inanimate_verbs"]
            )


@pytest.mark.parametrize("name", ["simple_agrmt", "vp_coord", "obj_rel_within_inanim"])
def test_our_own_pairs_equal_those_written_out(name):
    assert collections.Counter(grammar.minimal_pairs(name)) == collections.Counter(
        by_hand(name, LEXICON)
    )


@pytest.mark.short_cases("simple_agrmt", "sent_comp", "vp_coord", "long_vp_coord")
@pytest.mark.parametrize("name", list(FRAMES))
def test_a_pair_differs_in_one_word_the_target(name):
    for right, wrong in itertools.islice(grammar.minimal_pairs(name), 0, None, 97):
        right, wrong = right.split(), wrong.split()
        assert len(right) == len(wrong) and sum(a != b for a, b in zip(right, wrong)) == 1


def sentence(name, phrases, **numbers):
    return grammar.build(FRAMES[name], phrases, {"a": 0, "b": 0} | numbers)


def test_where_the_words_stand():
    found = sentence("prep_anim", ("the", "baker", "near", "the", "boy", "is happy"), b=1)
    assert found.words == ("the", "baker", "near", "the", "boys", "BE", "happy")
    assert (found.query, found.noun, found.determiner, found.attractor, found.verb) == (
        5,
        1,
        0,
        4,
        -1,
    )
    assert found.forms == ("is", "are") and (found.number, found.other) == (0, 1)
    assert (
        found.text(0) == "the baker near the boys is happy"
        and found.text(1) == "the baker near the boys are happy"
    )


def test_a_second_verb_of_the_subject_is_seen():
    found = sentence(
        "subj_rel", ("the", "baker", "that", "helps", "the", "boy", "costs money"), a=1
    )
    assert found.words == ("the", "bakers", "that", "help", "the", "boy", "COST", "money")
    assert (found.query, found.verb, found.attractor) == (6, 3, 5) and found.text(1).endswith(
        "cost money"
    )


def test_phrases_of_several_words_are_several_tokens():
    found = sentence(
        "long_vp_coord", ("the", "taxi driver", "likes to watch shows", "and", "is very late"), a=1
    )
    assert found.words == (
        "the",
        "taxi",
        "drivers",
        "like",
        "to",
        "watch",
        "shows",
        "and",
        "BE",
        "very",
        "late",
    )
    assert (found.noun, found.determiner, found.query) == (2, 0, 8)


@pytest.mark.parametrize("name", list(FRAMES))
def test_what_is_built_is_read_back(name):
    """parse is the inverse of build, for each number and every 53rd sentence."""
    frame = FRAMES[name]
    classes = [LEXICON[slot.words] if slot.words in LEXICON else (slot.words,) for slot in frame]
    for phrases in itertools.islice(itertools.product(*classes), 0, None, 53):
        for numbers in grammar.number_choices(frame):
            assert grammar.parse(frame, grammar.build(frame, phrases, numbers).words) == phrases
    other = FRAMES["sent_comp" if name != "sent_comp" else "vp_coord"]
    assert grammar.parse(other, grammar.build(frame, phrases, numbers).words) is None


def test_our_lexicon_keeps_its_promises():
    phrases = [phrase for words in LEXICON.values() for phrase in words]
    assert len(set(phrases)) == len(phrases), "no phrase in two classes"
    verbs = {
        phrase.split()[0]
        for key in ("main_verbs", "embedded_verbs", "inanimate_verbs", "long_verb_phrases")
        for phrase in LEXICON[key]
    }
    assert all(word.endswith("s") for word in verbs)
    assert {
        len(LEXICON[key])
        for key in ("main_verbs", "embedded_verbs", "inanimate_verbs", "long_verb_phrases")
    } == {8}
    assert len(set(grammar.vocabulary())) == len(grammar.vocabulary()) and len(
        set(grammar.outputs())
    ) == len(grammar.outputs())

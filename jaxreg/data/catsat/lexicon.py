"""The words of CATSAT and their token ids.

Singular and plural of a noun are two unrelated tokens. A verb has one input token, its stem
(written SIT), and two outputs, its forms (sits, sit); the past tense occurs only in sentences that
a person types.
"""

import numpy as np

SINGULAR, PLURAL = 0, 1

NOUNS = (
    ("cat", "cats"),
    ("dog", "dogs"),
    ("journey", "journeys"),
    ("bird", "birds"),
    ("horse", "horses"),
    ("child", "children"),
    ("king", "kings"),
    ("ship", "ships"),
    ("river", "rivers"),
    ("story", "stories"),
    ("farmer", "farmers"),
    ("doctor", "doctors"),
)
OBJECT_NOUNS = (("mat", "mats"),)  # never a subject
# Singular, plural, past.
VERBS = (
    ("sits", "sit", "sat"),
    ("runs", "run", "ran"),
    ("sleeps", "sleep", "slept"),
    ("falls", "fall", "fell"),
    ("waits", "wait", "waited"),
    ("moves", "move", "moved"),
    ("stops", "stop", "stopped"),
    ("turns", "turn", "turned"),
    ("grows", "grow", "grew"),
    ("sings", "sing", "sang"),
    ("rests", "rest", "rested"),
    ("stays", "stay", "stayed"),
)
NEUTRAL_DETERMINERS = ("the", "my", "our", "your")
INFORMATIVE_DETERMINERS = (("a", "this"), ("these", "two"))  # singular, plural
ADJECTIVES = ("big", "small", "red", "quiet")
PREPOSITIONS = ("on", "near", "behind")
ADVERBS = ("often", "always", "rarely")
# In the novel word splits only.
NONCE_WORDS = tuple(
    (
        "blick dax wug toma fep zorp modi kiv pilk gazzer vorn tulver snig brax lorp quib yomp "
        "drim fusk glim hesk jurn klem mabe nolf prad rulk sweb thrin ulmo vask wroon"
    ).split()
)

STEMS = tuple(plural.upper() for _, plural, _ in VERBS)
TOKENS = (
    "<pad>",
    *NEUTRAL_DETERMINERS,
    *INFORMATIVE_DETERMINERS[0],
    *INFORMATIVE_DETERMINERS[1],
    *ADJECTIVES,
    *PREPOSITIONS,
    *ADVERBS,
    *(form for noun in NOUNS + OBJECT_NOUNS for form in noun),
    *STEMS,
    *NONCE_WORDS,
)
OUTPUTS = tuple(form for verb in VERBS for form in verb[:2])  # label = 2 * verb + number
TOKEN_ID = {token: index for index, token in enumerate(TOKENS)}


def ids(words: tuple[str, ...]) -> np.ndarray:
    """int32 token ids of some words."""
    return np.array([TOKEN_ID[word] for word in words], np.int32)


def to_json() -> dict:
    """All word lists, for the content hash."""
    return {
        "nouns": NOUNS,
        "object_nouns": OBJECT_NOUNS,
        "verbs": VERBS,
        "neutral": NEUTRAL_DETERMINERS,
        "informative": INFORMATIVE_DETERMINERS,
        "adjectives": ADJECTIVES,
        "prepositions": PREPOSITIONS,
        "adverbs": ADVERBS,
        "nonce": NONCE_WORDS,
        "tokens": TOKENS,
        "outputs": OUTPUTS,
    }

"""One sentence or row of a data set as tokens, to inspect a model on it."""

import dataclasses
import difflib
import itertools

import numpy as np
from jaxtyping import Int32

from jaxreg.data.dataset import PAD, Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """One sentence as a row of tokens.

    Attributes:
      tokens: the sentence from position 0 on, then padding.
      words: one per token of the sentence, as the model sees it: "sat" is SIT.
      query_position: where the verb stands; -1 without a verb.
      singular: the output of the verb's singular form (sits); -1 without a verb.
      plural: the output of its plural form (sit); -1 without a verb.
      label: the right one of the two; -1 if unknown.
      cues: positions of the cues (of CATSAT: the subject noun and its determiner), -1 where absent.
    """

    tokens: Int32[np.ndarray, " t"]
    words: tuple[str, ...]
    query_position: int
    singular: int
    plural: int
    label: int
    cues: tuple[int, ...]


def encode_row(text: str | None, dataset: Dataset) -> Encoded:
    """The tokens of a sentence in a data set's words, from position 0 on.

    None stands for the first training row.

    A data set of characters, where a blank is a token, takes the text character by character. Where
    a row of the data has these words, its query, answer and foil are known: `label` and `singular`
    are the answer, `plural` the foil (-1 without one). Otherwise all are -1: there are attention
    maps but no answer.

    Raises:
      ValueError: an unknown word (names the nearest known one), no word, or more words than a row
        has.
    """
    if text is None:
        tokens = dataset.splits["train"].tokens[0]
        return _known_row(tokens[tokens != PAD], dataset)
    known = {token.lower(): index for index, token in enumerate(dataset.tokens) if index != PAD}
    # An exact match takes precedence.
    known |= {token: index for index, token in enumerate(dataset.tokens) if index != PAD}
    parts = list(text) if " " in known else text.split()
    words = tuple(word if word in known else word.lower() for word in parts)
    unknown = [word for word in words if word not in known]
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], list(known), n=1, cutoff=0.0)[0]
        raise ValueError(
            f"{unknown[0]!r} is not a word of {dataset.name}; the nearest is {nearest!r}"
        )
    length = dataset.splits["train"].tokens.shape[1]
    if not 1 <= len(words) <= length:
        raise ValueError(f"{text!r} has {len(words)} words; 1 to {length} fit")
    return _known_row(np.array([known[word] for word in words], np.int32), dataset)


def _known_row(content: Int32[np.ndarray, " n"], dataset: Dataset) -> Encoded:
    """Some tokens as a row, with the answer of the row of the data set that has the same."""
    tokens = np.zeros(dataset.splits["train"].tokens.shape[1], np.int32)
    tokens[: len(content)] = content
    words = tuple(dataset.tokens[token] for token in content)
    for split in dataset.splits.values():
        same = (np.array_equal(row[row != PAD], content) for row in split.tokens)
        row = next(itertools.compress(itertools.count(), same), None)
        if row is not None:
            if split.query_position is None or split.foil is None:
                break  # every position is asked
            start = int(np.flatnonzero(split.tokens[row])[0])
            cues = tuple(int(place) - start if place >= 0 else -1 for place in split.cues[row])
            label, foil = int(split.label[row]), int(split.foil[row])
            return Encoded(
                tokens, words, int(split.query_position[row]) - start, label, foil, label, cues
            )
    return Encoded(tokens, words, -1, -1, -1, -1, (-1,) * len(dataset.cue_names))

"""Next-token rows: every position is asked for the token that follows it.

    split = next_token_split(windows)               # windows: [n, length + 1] token ids

A source of such rows has `answers="every_position"`. Its splits have neither `query_position` nor
`foil`, and `label` is [n, t]: the id of the next token, -1 where nothing is asked. Its legend's
`outputs` are its `tokens`. Id 0 is padding, so that ids of a tokenizer which uses 0 go up by one.
"""

import numpy as np
from jaxtyping import Int32

from jaxreg.data.dataset import PAD, Split

NOT_ASKED = -1
"""The label of a position that has no answer."""


def next_token_split(windows: Int32[np.ndarray, "n m"]) -> Split:
    """Windows of m = t + 1 tokens as rows of t positions, each labelled with the token after it.

    Nothing is asked where the token or the next one is padding.
    """
    tokens, following = windows[:, :-1], windows[:, 1:]
    n = len(windows)
    asked = (tokens != PAD) & (following != PAD)
    return Split(
        tokens=np.ascontiguousarray(tokens),
        query_position=None,
        label=np.where(asked, following, NOT_ASKED).astype(np.int32),
        foil=None,
        template=np.zeros(n, np.int32),
        cues=np.zeros((n, 0), np.int32),
        tags=np.zeros((n, 0), bool),
    )

"""The keys of a batch, with their shapes and dtypes.

A batch is a dict of arrays whose leading axis B is the example. A row's tokens are integers, 0 is
padding. The letters are those of `jaxreg.typing`; C are the cues of the data set, V the variants
held for each sentence.
"""

from typing import Literal, TypedDict

from jaxreg.typing import Array, Float, Int

PARTNER: Literal["partner_"] = "partner_"
"""The name prefix of the arrays of an example's partner, another example of the global batch."""


class Batch(TypedDict, total=False):
    """Arrays by name. `tokens`, `query_position` and `label` are always there.

    Of rows that are asked at every position: `NextTokenBatch`.
    """

    tokens: Int[Array, "b t"]
    """Ids; 0 is padding."""
    query_position: Int[Array, "b"]
    """Where the answer is read."""
    label: Int[Array, "b"]
    """The right output."""
    features: Float[Array, "b t f"]
    """Embedded in place of the tokens, such as patches of an image."""

    # Of the training split.
    cues: Int[Array, "b c"]
    """Positions of the cues, the words that determine the answer; -1 where absent."""

    # Of what is scored.
    foil: Int[Array, "b"]
    """The one wrong output that the label is chosen against; -1: against all."""
    cut_positions: Int[Array, "b c"]
    """Positions that the query may not read; -1 cuts nothing."""

    # Another example of the same batch, where an augmentation mixes two.
    partner_tokens: Int[Array, "b t"]
    partner_query_position: Int[Array, "b"]
    partner_label: Int[Array, "b"]
    partner_cues: Int[Array, "b c"]
    partner_features: Float[Array, "b t f"]

    # Rewritten sentences, where an augmentation puts them in the place of the original.
    variants_synonym: Int[Array, "b v t"]
    variants_synonym_query: Int[Array, "b v"]
    """Where the answer is read; -1 where there is no such variant. The same of the others."""
    variants_paraphrase: Int[Array, "b v t"]
    variants_paraphrase_query: Int[Array, "b v"]
    variants_back_translation: Int[Array, "b v t"]
    variants_back_translation_query: Int[Array, "b v"]

    # What mixing adds.
    mix_weight: Float[Array, "b"]
    """Weight of the own label in [0, 1]; that of the partner's is the rest. Absent means 1."""
    mix_layer: Int[Array, ""]
    """Where both streams are added: 0 embeddings, n input of block n; absent if mixed already."""


class NextTokenBatch(TypedDict, total=False):
    """Arrays of rows that are asked for the next token at every position.

    There is no `query_position`, `foil` or `cut_positions`.
    """

    tokens: Int[Array, "b t"]
    label: Int[Array, "b t"]
    """The token that follows; -1 where nothing is asked."""
    features: Float[Array, "b t f"]

    cues: Int[Array, "b c"]
    """Of the training split; C is 0."""

    partner_tokens: Int[Array, "b t"]
    partner_label: Int[Array, "b t"]
    partner_features: Float[Array, "b t f"]
    partner_cues: Int[Array, "b c"]

    mix_weight: Float[Array, "b"]
    mix_layer: Int[Array, ""]

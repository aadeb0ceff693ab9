"""What is dropped from attention, and how often: a description that every implementation reads.

The forms in use, as settings of `AttentionDropout` (defaults: unit "connection", stage "weights",
share ()):

| elsewhere | here |
|---|---|
| Vaswani et al. 2017; PyTorch; Flax with broadcast_dropout=False | unit="connection" |
| Flax with broadcast_dropout=True: one [T, S] mask for all | share=("example", "head") |
| T5, Mesh TensorFlow: one mask for all queries | share=("query",), the same as unit="key" |
| Scenic, attention_layers.py: one mask for all examples and queries | share=("example", "query") |
| DropKey (Li et al. 2023) | stage="logits" |
| DropHead (Zhou et al. 2020), a head of an example at once | unit="head" |
"""

import dataclasses
import json
import math
import typing

import jax
import jax.core

from jaxreg.typing import DropoutStage, DropoutUnit, Scalar, SharedCoordinate

UNITS: dict[DropoutUnit, tuple[str, ...]] = {
    "connection": ("example", "head", "query", "key"),
    "key": ("example", "head", "key"),
    "query": ("example", "head", "query"),
    "head": ("example", "head"),
    "span": ("example", "head", "query", "key"),
}
"""Unit -> the coordinates that enter its draw; a span's key coordinate is key // span_length."""

STAGES = typing.get_args(DropoutStage)
BITS_VERSIONS = (1, 2)
"""What `AttentionDropout.bits` may be; `masks.py` defines both."""
SHAREABLE = typing.get_args(SharedCoordinate)


def check_rate(rate: Scalar, name: str) -> None:
    """Raises ValueError where `rate` is concrete and no number in [0, 1); a traced rate passes."""
    if isinstance(rate, jax.core.Tracer):
        return
    value = (
        float(rate)
        if isinstance(rate, (int, float)) or getattr(rate, "shape", None) == ()
        else math.nan
    )
    if not 0 <= value < 1:
        raise ValueError(
            f"{name}: {rate if math.isnan(value) else value} is not a drop probability; allowed is"
            " 0 <= rate < 1"
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionDropout:
    """Attention dropout as a pytree whose only leaf is the rate, which may be traced and mapped.

    Args:
      rate: drop probability in [0, 1), a float or a traced scalar (checked where concrete).
      unit: what is dropped together. "connection": every (head, query, key) independently; "key": a
        key for all queries of a head; "query": all that a query reads in a head; "head": a head of
        an example; "span": `span_length` neighbouring keys of one query.
      stage: "weights": after the softmax; kept weights are divided by the keep probability.
        "logits": before it (DropKey), no scaling; a row whose allowed keys would all be dropped
        keeps them all, so that no masked key is read; with unit "query" or "head" that is every
        row, and nothing changes, whatever is droppable.
      share: coordinates of "example", "head", "query" over which one mask is shared; the unit must
        have them.
      span_length: width of a span in keys, 1 or more, for unit "span" only.
      bits: the version of the random bits, 1 or 2 (`masks.py`): 2 costs less on a TPU and is no
        published generator. Masks of one version have nothing in common with those of the other.

    Raises:
      ValueError: a rate outside [0, 1), an unknown unit, stage or version of the bits, a share that
        the unit lacks, a span_length that is missing or out of place.

    Source: Vaswani et al. 2017, arXiv:1706.03762, drop attention weights; Srivastava et al. 2014,
    JMLR 15:1929-1958, for dropout, here inverted; Li et al. 2023, "DropKey", arXiv:2208.02646, eq.
    3, for the logits; Zhou et al. 2020, "Scheduled DropHead", arXiv:2004.13342, for heads, without
    its schedule. Differs: DropKey there may drop a whole row, which then reads masked keys.

    Example:
      >>> from jaxreg import AttentionDropout
      >>> each_connection = AttentionDropout(0.1)
      >>> drop_key = AttentionDropout(0.1, stage="logits")
      >>> drop_head = AttentionDropout(0.1, unit="head")
      >>> as_in_flax = AttentionDropout(0.1, share=("example", "head"))
    """

    rate: Scalar
    unit: DropoutUnit = dataclasses.field(default="connection", metadata={"static": True})
    stage: DropoutStage = dataclasses.field(default="weights", metadata={"static": True})
    share: tuple[SharedCoordinate, ...] = dataclasses.field(default=(), metadata={"static": True})
    span_length: int | None = dataclasses.field(default=None, metadata={"static": True})
    bits: int = dataclasses.field(default=1, metadata={"static": True})

    def __post_init__(self):
        if self.unit not in tuple(UNITS):
            raise ValueError(f"unit: {self.unit!r}; allowed: {', '.join(map(repr, UNITS))}")
        if self.stage not in STAGES:
            raise ValueError(f"stage: {self.stage!r}; allowed: {', '.join(map(repr, STAGES))}")
        if not isinstance(self.share, tuple) or len(set(self.share)) < len(self.share):
            raise ValueError(
                f"share: {self.share!r}; allowed is a tuple of different names, such as ('head',)"
            )
        allowed = [name for name in SHAREABLE if name in UNITS[self.unit]]
        for name in self.share:
            if name not in allowed:
                raise ValueError(
                    f"share: {name!r} with unit {self.unit!r}; allowed:"
                    f" {', '.join(map(repr, allowed))}"
                )
        if (self.unit == "span") != (self.span_length is not None):
            raise ValueError(
                f"span_length: {self.span_length} with unit {self.unit!r}; allowed is a number of"
                " keys with unit 'span', None with any other"
            )
        if self.unit == "span" and (
            type(self.span_length) is not int or not 1 <= self.span_length < 2**32
        ):
            raise ValueError(
                f"span_length: {self.span_length!r}; allowed is a whole number of keys, 1 or more,"
                " below 2^32"
            )
        if type(self.bits) is not int or self.bits not in BITS_VERSIONS:
            raise ValueError(f"bits: {self.bits!r}; allowed: {', '.join(map(str, BITS_VERSIONS))}")
        # Tree transformations rebuild this object around placeholders that are no numbers.
        if isinstance(self.rate, (int, float, str, list, tuple)):
            check_rate(self.rate, "rate")

    @property
    def coordinates(self) -> frozenset[str]:
        """The coordinates that the mask depends on: the unit's, less the shared ones."""
        return frozenset(UNITS[self.unit]) - frozenset(self.share)

    @property
    def changes_nothing(self) -> bool:
        """Whether no mask can matter: whole rows of logits are never dropped."""
        return self.stage == "logits" and "key" not in self.coordinates


def _register_for_export() -> None:
    """Lets `jax.export` write a function whose argument is an AttentionDropout."""
    from jax import export

    export.register_pytree_node_serialization(
        AttentionDropout,
        serialized_name="jaxreg.AttentionDropout",
        serialize_auxdata=lambda static: json.dumps(static).encode(),
        deserialize_auxdata=_static_fields,
    )


def _static_fields(written: bytes | bytearray) -> tuple:
    unit, stage, share, span_length, *bits = json.loads(bytes(written))
    return unit, stage, tuple(share), span_length, *(bits or [1])  # earlier ones lack the bits


_register_for_export()

"""What is dropped from attention, and how often: a small description that both implementations read."""

import dataclasses
import math

import jax

from jaxreg.typing import Scalar

UNITS = ("connection",)
STAGES = ("weights",)


def check_rate(rate: Scalar, name: str) -> None:
    """Raises ValueError where `rate` is concrete and outside [0, 1); a traced rate passes."""
    if isinstance(rate, jax.core.Tracer):
        return
    value = float(rate)
    if math.isnan(value) or not 0 <= value < 1:
        raise ValueError(f"{name}: {value} is not a drop probability; allowed is 0 <= rate < 1")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionDropout:
    """Attention dropout: a pytree whose only leaf is the rate, so rates may be traced, mapped and scheduled.

    Args:
      rate: drop probability in [0, 1), a float or a traced scalar (checked where concrete).
      unit: what is dropped as one. "connection": every (head, query, key) by itself.
      stage: "weights": after the softmax; kept weights are scaled by one over the keep probability.
      share: coordinates over which one mask is shared; only () so far.
      span_length: width of a span, for unit "span"; None otherwise.

    Raises:
      ValueError: a rate outside [0, 1), an unknown unit or stage, a share that the unit lacks.

    Source: Vaswani et al. 2017 drop attention weights; Srivastava et al. 2014 for dropout; here in its inverted form.
    """

    rate: Scalar
    unit: str = dataclasses.field(default="connection", metadata={"static": True})
    stage: str = dataclasses.field(default="weights", metadata={"static": True})
    share: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    span_length: int | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        if self.unit not in UNITS:
            raise ValueError(f"unit: {self.unit!r} is not available; allowed: {', '.join(UNITS)}")
        if self.stage not in STAGES:
            raise ValueError(f"stage: {self.stage!r} is not available; allowed: {', '.join(STAGES)}")
        if self.share:
            raise ValueError(f"share: {self.share!r} is not available; allowed: ()")
        if self.span_length is not None:
            raise ValueError(f"span_length: {self.span_length} belongs to unit 'span', not to {self.unit!r}")
        # Tree transformations rebuild this object around placeholders that are no numbers.
        if isinstance(self.rate, (int, float)):
            check_rate(self.rate, "rate")

"""Strengths over the steps: the factor in [0, 1] by which a strength is multiplied at a step.

Each shape is a function of (step, length), and one line of the table `SCHEDULES`; the length, in
steps, is a share of the training. Since strengths are traced, a scheduled one is the same program
as a constant one. It makes sense for strengths that are off at 0; one that is off at inf (the
clips, the cap) has no such schedule.

    constant    1
    early       1 for `length` steps, then 0
    late        0 for `length` steps, then 1
    falling     in a straight line from 1 to 0 over `length` steps
    rising      in a straight line from 0 to 1 over `length` steps
    curriculum  1 - exp(-10 step / length): rises fast at first, and is .99995 after `length` steps

Source: Liu et al. 2023, arXiv:2303.01500 (early, late; "falling" is its early dropout with the
linear decrease); Morerio et al. 2017, "Curriculum dropout", arXiv:1703.06229, with gamma = 10 /
length (length = all of the training there).
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from jaxreg.typing import Array, Float, Int

CURRICULUM_RATE = 10.0
"""gamma times the length, the heuristic of Morerio et al. 2017."""

Step = Int[Array, ""] | int

SCHEDULES: Mapping[str, Callable[[Step, int], Float[Array, ""]]] = {
    "constant": lambda step, length: jnp.ones(jnp.shape(step)),
    "early": lambda step, length: jnp.where(step < length, 1.0, 0.0),
    "late": lambda step, length: jnp.where(step < length, 0.0, 1.0),
    "falling": lambda step, length: 1.0 - jnp.minimum(step / length, 1.0),
    "rising": lambda step, length: jnp.minimum(step / length, 1.0),
    "curriculum": lambda step, length: (
        -jnp.expm1(-CURRICULUM_RATE * jnp.asarray(step).astype(float) / length)
    ),
}
"""Shape -> function of (step, length) to the factor."""


def factor(shape: str, step: Step, *, share: float, num_steps: int) -> Float[Array, ""]:
    """The factor at a step.

    Args:
      shape: a name of `SCHEDULES`.
      step: counted from 0; may be traced.
      share: of the training, in [0, 1]: the length is round(share * num_steps) steps, a whole
        number. With a length of 0 what happens behind it holds from the first step on.
      num_steps: of the training.

    Raises:
      ValueError: an unknown shape, or a share outside [0, 1].

    Example:
      >>> from jaxreg.reg.schedules import factor
      >>> [float(factor("early", step, share=0.5, num_steps=4)) for step in range(4)]
      [1.0, 1.0, 0.0, 0.0]
      >>> [float(factor("rising", step, share=1.0, num_steps=4)) for step in range(5)]
      [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if shape not in SCHEDULES:
        raise ValueError(f"shape: {shape!r}; allowed: {', '.join(SCHEDULES)}")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be in [0, 1]")
    length = round(share * num_steps)
    if length == 0:
        step, length = step + 1, 1
    return SCHEDULES[shape](jnp.asarray(step), length).astype(jnp.float32)

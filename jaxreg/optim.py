"""One optax chain: clip the global norm -> AdamW with a decay mask -> schedule. Every strength may be traced."""

import jax
import optax

from jaxreg.typing import Params, PyTree, Scalar

SCHEDULES = ("cosine", "constant")


def decay_mask(params: Params) -> PyTree[bool]:
    """True at the matrices of linear layers (leaves named "kernel"): biases, norms and embeddings are not decayed.

    The name decides, not the number of axes: attention biases are [H, K], embeddings [V, D].
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def learning_rate_factor(schedule: str, *, warmup_steps: int, num_steps: int) -> optax.Schedule:
    """The learning rate's factor in [0, 1] by step: linear warm-up, then a cosine to 0, or constant.

    Source: Loshchilov & Hutter 2017 (cosine); Goyal et al. 2017 (warm-up).
    """
    if schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps, num_steps)
    if schedule == "constant":
        return optax.linear_schedule(0.0, 1.0, warmup_steps) if warmup_steps else optax.constant_schedule(1.0)
    raise ValueError(f"schedule: {schedule!r}; allowed: {', '.join(SCHEDULES)}")


def adamw(
    *, learning_rate: Scalar, num_steps: int, b1: float = 0.9, b2: float = 0.98, eps: float = 1e-8,
    weight_decay: Scalar = 0.0, max_grad_norm: Scalar = float("inf"), schedule: str = "cosine", warmup_steps: int = 0,
) -> optax.GradientTransformation:
    """AdamW behind a global-norm clip, with decay on matrices only.

    update = -learning_rate * schedule(step) * (adam(clip(gradient)) + weight_decay * matrix)

    Args:
      learning_rate: the peak.
      num_steps: where the cosine reaches 0.
      b1, b2, eps: Adam's.
      weight_decay: decoupled decay, multiplied with the learning rate; off value 0.
      max_grad_norm: largest global norm of the gradient; off value inf.
      schedule, warmup_steps: see `learning_rate_factor`.

    Source: Loshchilov & Hutter 2019, algorithm 2; Pascanu et al. 2013 (clipping). The parts are optax's.
    """
    factor = learning_rate_factor(schedule, warmup_steps=warmup_steps, num_steps=num_steps)
    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, decay_mask),
        optax.scale_by_learning_rate(lambda step: learning_rate * factor(step)),
    )

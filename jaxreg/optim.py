"""One optax chain: clips -> noise -> optimizer with decay -> learning rate -> average.

    update = -learning_rate * schedule(step)
             * (optimizer(clipped gradient + noise) + weight_decay * decayed parameters)

Every strength may be traced. The parts are optax's where optax has them. A strength of None leaves
its part out of the program; at its off value (0, or inf for the clips) the part computes exactly
what would be computed without it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxreg.typing import Array, Int, Params, PRNGKey, PyTree, Scalar

# --- which parameters are decayed ---


def _names(path: tuple) -> tuple[str, ...]:
    """The names along a leaf's path, of any kind of tree.

    In an `nnx.State` a path ends in the attribute `value` besides, which names nothing.
    """
    if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def _named(*names: str) -> Callable[[Params], PyTree[bool]]:
    """A mask that is True at the leaves of these names.

    The name decides, not the number of axes: attention biases are [H, K], embeddings [V, D].
    """
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: _names(path)[-1] in names, params
    )


DECAY_MASKS: Mapping[str, Callable[[Params], PyTree[bool]]] = {
    "kernels": _named("kernel"),
    "kernels_and_embeddings": _named("kernel", "embedding"),
    "all": lambda params: jax.tree.map(lambda _: True, params),
}
"""Name -> function from parameters to a tree of booleans: which parameters are decayed.

"kernels": the matrices of linear layers, and no bias, norm or embedding; "kernels_and_embeddings":
learned positions and tied output layers too; "all": every parameter, biases and gains too.
"""

# --- the learning rate over the steps ---


def _warmed_up(after: optax.Schedule, warmup_steps: int) -> optax.Schedule:
    """Linear from 0 to 1, then `after`, which counts from the end of the warm-up."""
    return (
        optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup_steps), after], [warmup_steps])
        if warmup_steps
        else after
    )


def _cosine(warmup_steps: int, num_steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps, num_steps)


def _constant(warmup_steps: int, num_steps: int) -> optax.Schedule:
    if warmup_steps:
        return optax.linear_schedule(0.0, 1.0, warmup_steps)
    return optax.constant_schedule(1.0)


def _linear(warmup_steps: int, num_steps: int) -> optax.Schedule:
    return _warmed_up(optax.linear_schedule(1.0, 0.0, num_steps - warmup_steps), warmup_steps)


def _inverse_root(warmup_steps: int, num_steps: int) -> optax.Schedule:
    first = max(warmup_steps, 1)

    def after(step: Any) -> Array:  # in the warm-up, where it is not read, `step` is negative
        return jnp.sqrt(first / jnp.maximum(first + step, 1))

    return _warmed_up(after, warmup_steps)


SCHEDULES: Mapping[str, Callable[[int, int], optax.Schedule]] = {
    "cosine": _cosine,
    "constant": _constant,
    "inverse_root": _inverse_root,
    "linear": _linear,
}
"""Name -> function of (warmup_steps, num_steps)."""


def learning_rate_factor(schedule: str, *, warmup_steps: int, num_steps: int) -> optax.Schedule:
    """The learning rate's factor in [0, 1] by step: linear warm-up to 1, then the named schedule.

    cosine and linear reach 0 at num_steps; constant stays 1; inverse_root is sqrt(warmup_steps /
    step), with at least 1 step of warm-up counted.

    Source: Goyal et al. 2017, arXiv:1706.02677 (warm-up); Loshchilov & Hutter 2017,
    arXiv:1608.03983 (cosine); Vaswani et al. 2017, arXiv:1706.03762, eq. 3 (inverse root). Differs:
    the peak is 1, where eq. 3 has width^-.5 * warmup_steps^-.5.

    Raises:
      ValueError: an unknown name.

    Example:
      >>> from jaxreg.optim import learning_rate_factor
      >>> factor = learning_rate_factor("linear", warmup_steps=2, num_steps=6)
      >>> [round(float(factor(step)), 2) for step in range(7)]
      [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    _check_choice("schedule", schedule, SCHEDULES)
    return SCHEDULES[schedule](warmup_steps, num_steps)


# --- clips and noise: from a gradient to a gradient ---


def clip_each_norm(max_norm: Scalar) -> optax.GradientTransformation:
    """Clips each parameter tensor's gradient to a norm of `max_norm`; inf is off, exactly.

    optax's clip of the global norm, one tensor at a time (its `clip_by_block_rms` is by root mean
    square, not by norm).

    Source: Pascanu et al. 2013, arXiv:1211.5063. Differs: by tensor, so the direction of the whole
    gradient changes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.optim import clip_each_norm
      >>> gradient = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.5, 0.0])}
      >>> clip = clip_each_norm(1.0)
      >>> clipped, _ = clip.update(gradient, clip.init(gradient))
      >>> [round(float(x), 2) for x in [*clipped["a"], *clipped["b"]]]
      [0.6, 0.8, 0.5, 0.0]
    """
    clip = optax.clip_by_global_norm(max_norm)
    return optax.stateless(
        lambda gradient, _: jax.tree.map(lambda g: clip.update(g, optax.EmptyState())[0], gradient)
    )


def clip_adaptively(strength: Scalar) -> optax.GradientTransformation:
    """Clips each unit's gradient to `strength` times its parameters' norm; inf is off, exactly.

    optax's `adaptive_grad_clip`, with the axes that make a unit given where it cannot know them:
    all weights that go into one output. For the attention's output kernel [H, K, D] these are H and
    K, where optax would take H alone; the attention's biases [H, K] are one unit, as other biases
    are. An embedding's unit is a feature over the whole table, as in optax.

    Source: Brock et al. 2021, arXiv:2102.06171, section 4. Differs: the output layer is clipped,
    too.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.optim import clip_adaptively
      >>> params, gradient = {"kernel": jnp.ones((4, 2))}, {"kernel": jnp.full((4, 2), 9.0)}
      >>> clip = clip_adaptively(0.1)
      >>> clipped, _ = clip.update(gradient, clip.init(params), params)
      >>> round(float(clipped["kernel"][0, 0]), 3)  # of norm 0.2: its unit has 2
      0.1
    """

    def over_two_axes(params: Params) -> PyTree[bool]:
        def of_leaf(path: tuple, x: Array) -> bool:
            names = _names(path)
            return (names[-1:] == ("bias",) and x.ndim == 2) or (
                names[-2:] == ("out", "kernel") and x.ndim == 3
            )

        return jax.tree_util.tree_map_with_path(of_leaf, params)

    def others(params: Params) -> PyTree[bool]:
        return jax.tree.map(lambda x: not x, over_two_axes(params))

    return optax.chain(
        optax.masked(optax.adaptive_grad_clip(strength, axis=(0, 1)), over_two_axes),
        optax.masked(optax.adaptive_grad_clip(strength), others),
    )


def by_layer(
    transformation: optax.GradientTransformation, stacked: Sequence[str]
) -> optax.GradientTransformation:
    """`transformation`, a stateless one, on each layer of stacked parameters by itself.

    What it does to a tensor so is what it does where the layers are trees of their own.

    Args:
      stacked: names at the top of the parameters whose leaves have a leading axis of layers.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.optim import by_layer, clip_each_norm
      >>> gradient = {"blocks": {"kernel": jnp.array([[3.0, 4.0], [0.3, 0.4]])}}  # two layers
      >>> clip = by_layer(clip_each_norm(1.0), ["blocks"])
      >>> clipped, _ = clip.update(gradient, clip.init(gradient), gradient)
      >>> [round(float(x), 2) for x in clipped["blocks"]["kernel"].ravel()]
      [0.6, 0.8, 0.3, 0.4]
    """
    if not stacked:
        return transformation

    def of(updates: Any, params: Any) -> Any:
        return transformation.update(updates, transformation.init(params), params)[0]

    def update(updates, params):
        def divided(tree):
            own = {name: tree[name] for name in tree if name in stacked}
            return own, {name: tree[name] for name in tree if name not in stacked}

        (layers, rest), (layer_params, rest_params) = divided(updates), divided(params)
        return jax.vmap(of)(layers, layer_params) | of(rest, rest_params)

    return optax.stateless(update)


class NoiseState(NamedTuple):
    """How many steps were taken; no key.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.optim import add_gradient_noise
      >>> int(add_gradient_noise(0.01).init({"kernel": jnp.ones(3)}).step)
      0
    """

    step: Int[Array, ""]


def add_gradient_noise(
    variance: Scalar, decay: float = 0.55
) -> optax.GradientTransformationExtraArgs:
    """Adds normal noise of variance `variance` / (1 + step)^decay; variance 0 is off, exactly.

    `optax.add_noise` does the same, but keeps a key in its state; ours comes with each update
    (`noise_key=`), because keys are derived from (seed, step) and never stored, so that a resumed
    run draws the same.

    Randomness: one draw over all parameters in the tree's order, from `noise_key` and nothing else.

    Source: Neelakantan et al. 2015, arXiv:1511.06807, eq. 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.optim import add_gradient_noise
      >>> gradient = {"kernel": jnp.ones(3)}
      >>> noise = add_gradient_noise(0.01)
      >>> noisy, state = noise.update(gradient, noise.init(gradient), noise_key=jax.random.key(0))
      >>> noisy["kernel"].shape, int(state.step)
      ((3,), 1)
    """

    def update(gradient, state, params=None, *, noise_key: PRNGKey | None = None, **extra):
        if noise_key is None:
            raise ValueError(
                "noise_key: gradient noise needs the step's key: optimizer.update(...,"
                " noise_key=key)"
            )
        flat, unravel = ravel_pytree(gradient)
        size = jnp.sqrt(variance / (1.0 + state.step.astype(float)) ** decay)
        noise = unravel(jax.random.normal(noise_key, flat.shape, flat.dtype))
        return jax.tree.map(lambda g, n: g + size * n, gradient, noise), NoiseState(state.step + 1)

    # optax's protocol cannot say that an update needs one of the extra arguments.
    return optax.GradientTransformationExtraArgs(
        lambda params: NoiseState(jnp.int32(0)), cast(Any, update)
    )


# --- the average of the parameters ---


class AverageState(NamedTuple):
    """The average of the parameters over `count` steps; the initial parameters at count 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.optim import track_average
      >>> state = track_average(0.9).init({"kernel": jnp.ones(3)})
      >>> int(state.count), state.average["kernel"].tolist()
      (0, [1.0, 1.0, 1.0])
    """

    count: Int[Array, ""]
    average: Params


def track_average(decay: Scalar) -> optax.GradientTransformation:
    """Passes updates on, and keeps an exponential average of the resulting parameters in its state.

    average_t = sum over steps i <= t of decay^(t-i) * params_i, divided by the sum of these
    weights.

    So no weight is left on the initial parameters, which matters in runs shorter than 1 / (1 -
    decay). decay 0 gives the parameters exactly; decay towards 1 the plain mean over all steps.
    Must be last in a chain. See `averaged`.

    Source: Kingma & Ba 2015, arXiv:1412.6980, section 7.2, with its bias correction; before it
    Polyak & Juditsky 1992, doi:10.1137/0330046 (the plain mean, for which the asymptotics are).
    Izmailov et al. 2018, arXiv:1803.05407 (SWA), average few points of a constant or cyclical
    learning rate, equally; ours runs along any schedule, at every step. `optax.ema` averages
    updates, not parameters; the step is `optax.incremental_update`'s.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg.optim import averaged, track_average
      >>> params, average = {"kernel": jnp.zeros(1)}, track_average(0.5)
      >>> state = average.init(params)
      >>> for _ in range(2):
      ...     updates, state = average.update({"kernel": jnp.ones(1)}, state, params)
      ...     params = optax.apply_updates(params, updates)
      ...
      >>> round(float(averaged(state, params)["kernel"][0]), 3)  # (.5 * 1 + 1 * 2) / 1.5
      1.667
    """

    def init(params):
        return AverageState(jnp.int32(0), jax.tree.map(jnp.asarray, params))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("params: the average needs them: optimizer.update(..., params)")
        count = state.count + 1
        share = (1.0 - decay) / (1.0 - jnp.float32(decay) ** count)  # exactly 1 at decay 0
        moved = optax.apply_updates(params, updates)
        return updates, AverageState(count, optax.incremental_update(moved, state.average, share))

    return optax.GradientTransformation(init, update)


def averaged(opt_state: Any, params: Params) -> Params:
    """The average that `track_average` keeps in `opt_state`; `params` if there is none.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.optim import averaged
      >>> averaged((), {"kernel": jnp.ones(2)})["kernel"].tolist()  # nothing was averaged
      [1.0, 1.0]
    """

    def is_average(state):
        return isinstance(state, AverageState)

    found = [state for state in jax.tree.leaves(opt_state, is_leaf=is_average) if is_average(state)]
    return found[0].average if found else params


# --- the whole ---


class Betas(NamedTuple):
    """Decay rates of the means of gradients and of squares, and the epsilon added to the root.

    Example:
      >>> from jaxreg.optim import Betas
      >>> Betas(b1=0.9, b2=0.98, eps=1e-8)
      Betas(b1=0.9, b2=0.98, eps=1e-08)
    """

    b1: float
    b2: float
    eps: float


def _adam(betas: Betas) -> optax.GradientTransformation:
    return optax.scale_by_adam(betas.b1, betas.b2, betas.eps)


OPTIMIZERS: Mapping[
    str, Callable[[Betas, list[optax.GradientTransformation]], list[optax.GradientTransformation]]
] = {
    "adamw": lambda betas, decay: [_adam(betas), *decay],
    "adam_l2": lambda betas, decay: [*decay, _adam(betas)],
    "sgd": lambda betas, decay: [optax.trace(betas.b1), *decay],
    "lion": lambda betas, decay: [optax.scale_by_lion(betas.b1, betas.b2), *decay],
}
"""Name -> the parts between noise and learning rate; decay is decoupled, in adam_l2 before Adam."""


def optimizer(
    *,
    learning_rate: Scalar,
    num_steps: int,
    optimizer: str = "adamw",
    b1: float = 0.9,
    b2: float = 0.98,
    eps: float = 1e-8,
    weight_decay: Scalar | None = None,
    decay_mask: str = "kernels",
    max_grad_norm: Scalar | None = None,
    max_param_grad_norm: Scalar | None = None,
    adaptive_clip: Scalar | None = None,
    gradient_noise: Scalar | None = None,
    ema_decay: Scalar | None = None,
    schedule: str = "cosine",
    warmup_steps: int = 0,
    stacked: Sequence[str] = (),
) -> optax.GradientTransformationExtraArgs:
    """The chain of this module: three clips, noise, optimizer and decay, learning rate, average.

    The noise comes after the clips, which would cut it down otherwise. Its `update` takes
    `noise_key=`, the step's key.

    Args:
      learning_rate: the peak.
      num_steps: where the schedules cosine and linear reach 0.
      optimizer: adamw | adam_l2 | sgd | lion.
      b1: decay per step of the mean of gradients; of sgd the momentum, which sums: the step is
        1 / (1 - b1) times as long.
      b2: decay of the mean of squares (adam), of the momentum that is kept (lion); sgd has none.
      eps: Adam's.
      weight_decay: multiplied with the learning rate, per step; off value 0.
      decay_mask: which parameters, see `DECAY_MASKS`.
      max_grad_norm, max_param_grad_norm: largest norm of the whole gradient, of each tensor's; off
        value inf.
      adaptive_clip: largest norm of a unit's gradient, in norms of its parameters; off value inf.
      gradient_noise: variance at the first step; off value 0.
      ema_decay: of the averaged parameters, see `track_average` and `averaged`; off value 0.
      schedule, warmup_steps: see `learning_rate_factor`.
      stacked: names of parameters that are stacked over layers (`jaxreg.nn.layers.STACKED`), each
        of which is clipped by itself. The noise is drawn for the stack: other numbers of the same
        distribution.

    Raises:
      ValueError: an unknown name; or noise, and no `noise_key` at the update.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithms 1 (sgd with decay) and 2 (adamw,
    and adam_l2 crossed out); Chen et al. 2023, arXiv:2302.06675 (lion); Pascanu et al. 2013,
    arXiv:1211.5063 (clip). adam_l2 adds the decay after the clip, so that only the loss's gradient
    is clipped.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg.optim import optimizer
      >>> chain = optimizer(learning_rate=0.1, num_steps=10, weight_decay=0.1, max_grad_norm=1.0)
      >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> gradient = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
      >>> updates, _ = chain.update(gradient, chain.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> kernel, bias = params["kernel"], params["bias"]
      >>> round(float(kernel[0, 0]), 3), float(bias[0])  # kernels decay, biases do not
      (0.99, 1.0)
    """
    _check_choice("optimizer", optimizer, OPTIMIZERS)
    _check_choice("decay_mask", decay_mask, DECAY_MASKS)
    factor = learning_rate_factor(schedule, warmup_steps=warmup_steps, num_steps=num_steps)
    decay = _present(
        weight_decay, lambda strength: optax.add_decayed_weights(strength, DECAY_MASKS[decay_mask])
    )
    return _in_standard_modes(
        optax.chain(
            *_present(max_grad_norm, optax.clip_by_global_norm),
            *_present(max_param_grad_norm, lambda most: by_layer(clip_each_norm(most), stacked)),
            *_present(adaptive_clip, lambda most: by_layer(clip_adaptively(most), stacked)),
            *_present(gradient_noise, add_gradient_noise),
            *OPTIMIZERS[optimizer](Betas(b1, b2, eps), decay),
            optax.scale_by_learning_rate(lambda step: learning_rate * factor(step)),
            *_present(ema_decay, track_average),
        )
    )


def _in_standard_modes(
    chain: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The chain under `jax_numpy_rank_promotion` and `jax_numpy_dtype_promotion` as by default.

    optax's Adam divides by 1 - decay**count with an integer count, which strict promotion refuses.
    """
    chain = optax.with_extra_args_support(chain)

    def update(updates, state, params=None, **extra):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return chain.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(chain.init, update)


def _present(
    strength: Scalar | None, part: Callable[[Any], optax.GradientTransformation]
) -> list[optax.GradientTransformation]:
    """The part, or nothing where the strength is None."""
    return [] if strength is None else [part(strength)]


def _check_choice(field: str, word: str, table: Mapping[str, Any]) -> None:
    if word not in table:
        raise ValueError(f"{field}: {word!r}; allowed: {', '.join(table)}")

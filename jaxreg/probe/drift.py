"""Internal covariate shift: how much one update moves what each layer reads, without a unit.

Given the parameters before and after one update, and one batch that both see in evaluation mode.

By distribution (Ioffe and Szegedy 2015, arXiv:1502.03167): the input of a branch (attention, MLP)
is what its first matrices read: [B, T, D], real tokens only; with pre-norm that is after the norm.
Per feature, mean m and standard deviation s over tokens;

    drift = sqrt( sum (m' - m)^2 + (s' - s)^2 ) / sqrt( sum s^2 ),

the 2-Wasserstein distance of the two diagonal Gaussians in units of the spread before. It is 0 for
equal parameters, and equal for x and c x, so small activations are no advantage. `movement` is the
same for single tokens: the root mean square of x' - x over that of x - m, which also detects tokens
that change places within one distribution.

By gradient (Santurkar et al. 2018, arXiv:1805.11604, definition 2.1): for layer i, G is its
gradient with all layers before the update, G' the one with the layers below i after it. They report
||G - G'|| and the cosine; scale-free here is ||G - G'|| / ||G||.

Both grow with the length of the step: compare arms at the same step and learning rate, or divide by
`update`, the update's norm relative to the parameters'.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.nn import Transformer, plain_form, unstack_layers
from jaxreg.probe.capture import clean_run
from jaxreg.probe.forward import mean_loss
from jaxreg.probe.layers import layer_index
from jaxreg.typing import Array, Bool, Float


class Drift(NamedTuple):
    """What one update does to the inputs of each block's attention (0) and MLP (1); see above.

    Attributes:
      distribution, movement: [N, 2].
      update: ||after - before|| / ||before|| over all parameters.
    """

    distribution: Float[Array, "n 2"]
    movement: Float[Array, "n 2"]
    update: Float[Array, ""]


class GradientDrift(NamedTuple):
    """How the update of the layers below changes each layer's gradient: [N + 1], exit last.

    Attributes:
      distance: ||G - G'|| / ||G||; 0 means that the layers below do not disturb it.
      cosine: between G and G'.
    """

    distance: Float[Array, "l"]
    cosine: Float[Array, "l"]


def input_drift(model: Transformer, before: Any, after: Any, batch: Mapping) -> Drift:
    """How far one update moves the distribution of each branch's inputs."""
    inputs = clean_run(model, before, batch).inputs
    moved = clean_run(model, after, batch).inputs
    real = batch["tokens"] != 0
    mean, spread = _moments(inputs, real)
    new_mean, new_spread = _moments(moved, real)
    scale = jnp.sqrt(jnp.sum(jnp.square(spread), -1))
    moved_by = jnp.square(new_mean - mean) + jnp.square(new_spread - spread)
    distribution = jnp.sqrt(jnp.sum(moved_by, -1)) / scale
    step = jnp.where(real[:, :, None], moved - inputs, 0.0)
    movement = jnp.sqrt(jnp.sum(jnp.square(step), (-3, -2, -1)) / jnp.sum(real)) / scale
    return Drift(distribution, movement, _norm(_minus(after, before)) / _norm(before))


def gradient_drift(model: Transformer, before: Any, after: Any, batch: Mapping) -> GradientDrift:
    """How far one update of the layers below changes each layer's gradient."""
    model, before = plain_form(model, before)
    after = unstack_layers(after)
    layers = model.num_layers
    gradient = jax.grad(lambda p: mean_loss(model, p, batch))

    def at(tree):
        return {name: layer_index(name, layers) for name in tree}

    still = gradient(before)

    def of(layer):
        where = at(before)
        mixed = {name: _where(where[name] < layer, after[name], before[name]) for name in before}
        moved = gradient(mixed)

        def own(tree):
            return {
                name: _where(at(tree)[name] == layer, part, jax.tree.map(jnp.zeros_like, part))
                for name, part in tree.items()
            }

        g, g_moved = own(still), own(moved)
        dot = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, g, g_moved)))
        return _norm(_minus(g, g_moved)) / _norm(g), dot / (_norm(g) * _norm(g_moved))

    return GradientDrift(*jax.lax.map(of, jnp.arange(1, layers + 2)))


def _moments(
    x: Float[Array, "n 2 b t d"], real: Bool[Array, "b t"]
) -> tuple[Float[Array, "n 2 d"], Float[Array, "n 2 d"]]:
    """Mean and standard deviation of each feature over the real tokens."""
    rows = real[:, :, None]
    mean = jnp.sum(x * rows, (2, 3)) / jnp.sum(real)
    variance = jnp.sum(jnp.square(x - mean[:, :, None, None]) * rows, (2, 3)) / jnp.sum(real)
    return mean, jnp.sqrt(variance)


def _where(chosen: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(chosen, x, y), a, b)


def _minus(a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: x - y, a, b)


def _norm(tree: Any) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)))

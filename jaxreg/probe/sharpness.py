"""Sharpness of a minimum: the rise of the loss around it, and the Hessian's top eigenvalue.

A perturbation is e = T u with a scale T, and its size the root mean square of u over all P
parameters:

    "absolute"  T = 1
    "norm"      T = the root mean square of all parameters: sizes are relative to the whole
    "weights"   T = |w|, parameter by parameter: sizes are relative to each, so that scaling one
                layer up and the next one down, which changes no output, changes nothing here either
                (adaptive sharpness); zero parameters stay zero

Sharpness without a scale cannot be compared between arms: weight decay and norms change the scale
of the weights (Dinh et al. 2017, arXiv:1703.04933).

Everything is taken of the mean cross-entropy at the query in evaluation mode, or in train mode at
the model's rates if a `dropout_key` is given.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxreg.nn import Transformer
from jaxreg.probe.forward import mean_loss
from jaxreg.typing import Array, Float, Key, PRNGKey, Scalar

SCALES = ("absolute", "norm", "weights")


class LossRise(NamedTuple):
    """Loss in nats at the parameters, and how much it rises around them.

    Attributes:
      loss: at the parameters.
      mean: the mean rise over random directions of exactly the radius.
      worst: the largest rise that the ascent found within the radius: a lower bound of the largest
        there is, and at least 0.
    """

    loss: Float[Array, ""]
    mean: Float[Array, ""]
    worst: Float[Array, ""]


def loss_rise(
    model: Transformer,
    params: Any,
    batch: Mapping,
    direction_key: Key[Array, ""],
    radius: Scalar,
    *,
    scale: str = "weights",
    num_directions: int = 16,
    num_steps: int = 10,
    dropout_key: PRNGKey | None = None,
) -> LossRise:
    """The loss around the parameters, on the sphere and in the ball of root mean square `radius`.

    Args:
      radius: of u; 0.01 is 1% of each weight, or of all. A worst case at radius .01 is far worse
        than a mean at it.
      num_directions: random directions of the mean; a normal draw, put on the sphere.
      num_steps: steps of the ascent: u <- the projection on the ball of u + (2 radius / steps) *
        unit gradient; the best of all is kept.

    Raises:
      ValueError: an unknown scale.

    Randomness: direction i is drawn with fold_in(direction_key, i).

    Source: Keskar et al. 2017, arXiv:1609.04836 (worst within a relative box); Foret et al. 2021,
    arXiv:2010.01412; Kwon et al. 2021, arXiv:2102.11600 (adaptive). Differs: a ball, not a box.
    """
    loss_at, size = _around(model, params, batch, scale, dropout_key)
    reach = radius * jnp.sqrt(size)
    start, value_and_grad = jnp.zeros(size), jax.value_and_grad(loss_at)

    def random_rise(i):
        normal = jax.random.normal(jax.random.fold_in(direction_key, i), (size,))
        return loss_at(reach * _unit(normal))

    def ascend(carry, _):
        u, best = carry
        loss, gradient = value_and_grad(u)
        u = u + 2 * reach / num_steps * _unit(gradient)
        u = u * jnp.minimum(1.0, reach / jnp.maximum(jnp.linalg.norm(u), 1e-30))
        return (u, jnp.maximum(best, loss)), None

    loss = loss_at(start)
    mean = jax.lax.map(random_rise, jnp.arange(num_directions)).mean() - loss
    (last, best), _ = jax.lax.scan(ascend, (start, loss), length=num_steps)
    return LossRise(loss, mean, jnp.maximum(best, loss_at(last)) - loss)


def top_eigenvalue(
    model: Transformer,
    params: Any,
    batch: Mapping,
    start_key: Key[Array, ""],
    *,
    scale: str = "weights",
    num_iterations: int = 30,
    dropout_key: PRNGKey | None = None,
) -> Float[Array, ""]:
    """The largest eigenvalue of T H T, H the Hessian of the loss: nats per unit of u squared.

    The largest by value, not by magnitude. By Lanczos with full reorthogonalisation, from a random
    start; the estimate rises towards the eigenvalue with the iterations, which must not exceed the
    number of parameters.

    Raises:
      ValueError: an unknown scale.

    Source: Lanczos 1950, doi:10.6028/jres.045.026; Ghorbani et al. 2019, arXiv:1901.10159 (of
    neural networks). Differs: scaled.
    """
    loss_at, size = _around(model, params, batch, scale, dropout_key)
    gradient = jax.grad(loss_at)

    def product(v):
        return jax.jvp(gradient, (jnp.zeros(size),), (v,))[1]

    first = _unit(jax.random.normal(start_key, (size,)))
    basis = jnp.zeros((num_iterations + 1, size)).at[0].set(first)

    def iterate(k, carry):
        basis, diagonal, off = carry
        w = product(basis[k])
        diagonal = diagonal.at[k].set(jnp.vdot(w, basis[k]))
        for _ in range(2):  # twice is enough (Parlett); rows not yet made are zero
            w = w - basis.T @ (basis @ w)
        # Where the Krylov space is exhausted only rounding is left, which must not become a
        # direction.
        left = jnp.linalg.norm(w)
        found = left > 1e-6 * jnp.max(jnp.abs(diagonal))
        basis = basis.at[k + 1].set(jnp.where(found, _unit(w), 0.0))
        return basis, diagonal, off.at[k].set(jnp.where(found, left, 0.0))

    zeros = jnp.zeros(num_iterations)
    _, diagonal, off = jax.lax.fori_loop(0, num_iterations, iterate, (basis, zeros, zeros))
    small = jnp.diag(diagonal) + jnp.diag(off[:-1], 1) + jnp.diag(off[:-1], -1)
    return jnp.linalg.eigvalsh(small)[-1]


def _around(
    model: Transformer, params: Any, batch: Mapping, scale: str, dropout_key: PRNGKey | None
) -> tuple[Callable, int]:
    """The loss as a function of the flat u, and how many parameters there are."""
    if scale not in SCALES:
        raise ValueError(f"scale: {scale!r}; allowed: {', '.join(SCALES)}")
    flat, unflatten = ravel_pytree(params)
    units = {
        "absolute": jnp.ones_like(flat),
        "norm": jnp.full_like(flat, jnp.sqrt(jnp.mean(flat**2))),
        "weights": jnp.abs(flat),
    }[scale]
    # Blockwise attention has a custom backward pass, which forward-over-reverse cannot
    # differentiate.
    plain = model.clone(options=model.options.with_attention(implementation="reference"))
    return lambda u: mean_loss(plain, unflatten(flat + units * u), batch, dropout_key), flat.size


def _unit(v: Float[Array, "p"]) -> Float[Array, "p"]:
    """The vector at length one; zero stays zero."""
    return v / jnp.maximum(jnp.linalg.norm(v), 1e-30)

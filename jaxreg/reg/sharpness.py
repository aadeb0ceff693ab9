"""SAM and ASAM: functions of (parameters, gradient) to the point of a second gradient.

A step with one of them takes the gradient at the parameters, moves to the point returned here,
takes the gradient there over the same batch and with the same masks, and updates the *original*
parameters with that second gradient alone. So a step costs two. The radius may be traced; at 0 the
point is the parameters exactly. `optax.contrib.sam` keeps the same in an optimizer's state and
needs the loss function; a function of two arguments is all that our step needs.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from jaxreg.typing import Array, Float, Params, Scalar

Perturbation = Callable[[Params, Params], Params]
"""(parameters, gradient) -> parameters."""


def sam(radius: Scalar) -> Perturbation:
    """params + radius * gradient / |gradient|, with one norm over all parameters.

    Where the gradient is 0 the parameters stay as they are.

    Source: Foret et al. 2021, arXiv:2010.01412, eq. 2 with p = 2. Differs: the gradient's norm is
    that of the global batch on any number of devices, where the paper takes each device's own (its
    m-sharpness).

    >>> import jax.numpy as jnp
    >>> from jaxreg.reg import sharpness
    >>> point = sharpness.sam(0.5)({"w": jnp.zeros(2)}, {"w": jnp.array([3.0, 4.0])})
    >>> [round(x, 3) for x in point["w"].tolist()]  # half a unit along the gradient
    [0.3, 0.4]
    """

    def perturb(params: Params, gradient: Params) -> Params:
        scale = radius / _norm_or_one(gradient)
        return jax.tree.map(lambda x, g: x + scale * g, params, gradient)

    return perturb


def asam(radius: Scalar, offset: float = 0.01) -> Perturbation:
    """params + radius * T^2 gradient / |T gradient|, with T = |params| + offset.

    Large parameters move further, so that rescaling one layer up and the next down does not change
    the sharpness. Where the gradient is 0 the parameters stay as they are.

    Source: Kwon et al. 2021, arXiv:2102.11600, algorithm 1 with the element-wise operator. Differs:
    T is the same for every parameter, where the authors' code has 1 for biases.

    Args:
      radius: rho, in units of |T gradient|. offset: eta, added to |params|.

    >>> import jax.numpy as jnp
    >>> from jaxreg.reg import sharpness
    >>> params, gradient = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.ones(2)}
    >>> moved = sharpness.asam(0.5, offset=0.0)(params, gradient)["w"] - params["w"]
    >>> round(float(moved[1] / moved[0]), 3)  # twice as large, so it moves four times as far
    4.0
    """

    def perturb(params: Params, gradient: Params) -> Params:
        units = jax.tree.map(lambda x: jnp.abs(x) + offset, params)
        scaled = jax.tree.map(jnp.multiply, units, gradient)
        scale = radius / _norm_or_one(scaled)
        return jax.tree.map(lambda x, t, g: x + scale * t * g, params, units, scaled)

    return perturb


PERTURBATIONS: Mapping[str, Callable[[Scalar], Perturbation]] = {
    "sam_radius": sam,
    "asam_radius": asam,
}
"""Config field in the section optim -> function from the radius."""


def perturbation(**radius: Scalar | None) -> Perturbation | None:
    """The function of the one radius that is given; None if none is.

    Args:
      radius: field of `PERTURBATIONS` -> radius; None is absent.

    Raises:
      ValueError: an unknown field, or two radii: there is one second point.

    >>> from jaxreg.reg import sharpness
    >>> sharpness.perturbation(sam_radius=None, asam_radius=None) is None
    True
    >>> callable(sharpness.perturbation(sam_radius=0.05))
    True
    """
    given = {name: value for name, value in radius.items() if value is not None}
    if unknown := [name for name in given if name not in PERTURBATIONS]:
        raise ValueError(f"{', '.join(unknown)}: unknown; allowed: {', '.join(PERTURBATIONS)}")
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} are set; the gradient is taken again at one point, so all but"
            " one must be None"
        )
    return next((PERTURBATIONS[name](value) for name, value in given.items()), None)


def _norm_or_one(tree: Params) -> Float[Array, ""]:
    """The norm over all leaves, 1 in place of 0."""
    norm = optax.tree.norm(tree)
    return jnp.where(norm > 0, norm, 1.0)

"""Position-keyed dropout of activations: attention's bits with query = position, key = feature."""

from typing import Any

import flax.linen as nn
import jax
import jax.core
import jax.numpy as jnp

from jaxreg.attention import AttentionDropout, masks
from jaxreg.attention.dropout import check_rate
from jaxreg.typing import (
    Array,
    Bool,
    DropoutUnit,
    Float,
    Int,
    PRNGKey,
    Rate,
    Scalar,
    SharedCoordinate,
)


def position_keyed_dropout(
    x: Float[Array, "b t d"],
    rate: Float[Array, ""] | float,
    dropout_key: PRNGKey,
    example_ids: Int[Array, "b"] | None = None,
) -> Float[Array, "b t d"]:
    """`x` with single features dropped and the others divided by the keep probability.

    Args:
      x: activations.
      rate: drop probability in [0, 1), a float or a traced scalar.
      dropout_key: the call key, or [B] keys.
      example_ids: positions in the global batch; None means 0 ... B-1.

    Randomness: position-keyed (`jaxreg.attention.masks`): head 0, query = position, key = feature.

    Source: Srivastava et al. 2014, JMLR 15:1929-1958. Differs: inverted; the mask does not depend
    on the layout of the batch.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> x, key = jnp.ones((4, 3, 2)), jax.random.key(0)
      >>> whole = jnn.position_keyed_dropout(x, 0.5, key)
      >>> half = jnn.position_keyed_dropout(x[2:], 0.5, key, example_ids=jnp.array([2, 3]))
      >>> bool((half == whole[2:]).all())  # a device with half of the batch draws the same masks
      True
    """
    check_rate(rate, "rate")
    if x.ndim != 3:
        raise ValueError(f"x: shape {x.shape}; allowed is [B, T, D]")
    dropout = AttentionDropout(rate)
    words = masks.mask_words(dropout, dropout_key, example_ids, x.shape[0], jnp.arange(1))
    keep = masks.keep_all_positions(dropout, words, x.shape[1], x.shape[2])[:, 0]
    return jnp.where(keep, x * masks.keep_scale(rate).astype(x.dtype), 0)


def kept_units(
    unit: DropoutUnit,
    rate: Scalar,
    dropout_key: PRNGKey,
    example_ids: Int[Array, "b"] | None,
    num_examples: int,
    length: int = 1,
    *,
    share: tuple[SharedCoordinate, ...] = (),
) -> Bool[Array, "#b #t"]:
    """True where a unit that is larger than a feature is kept: a position, or a whole example.

    Args:
      unit: of `AttentionDropout`: "query" draws for each position, in the lanes of the queries;
        "key" too, in the coordinate of the keys; "head" draws once for an example.
      rate: drop probability in [0, 1).
      length: T, for positions.
      share: ("example",) draws once for all examples; the result then has one row.

    Randomness: position-keyed (`jaxreg.attention.masks`), head 0; the other coordinate is 0.
    """
    check_rate(rate, "rate")
    dropout = AttentionDropout(rate, unit, share=share)
    words = masks.mask_words(dropout, dropout_key, example_ids, num_examples, jnp.arange(1))
    num_queries, num_keys = (
        length if name in dropout.coordinates else 1 for name in ("query", "key")
    )
    groups = jnp.arange(-(-num_queries // masks.LANES), dtype=jnp.uint32)
    k0, k1 = (word[:, :, None, None] for word in words)
    # In a loop of their own, as all masks: fused, XLA would recompute the bits for every feature
    # that they decide, and compile all layers as one computation, seconds for each layer.
    packed = masks.packed_lanes(
        k0,
        k1,
        groups[:, None],
        jnp.arange(num_keys, dtype=jnp.uint32)[None, :],
        masks.threshold(rate),
    )
    kept = masks.unpacked(packed)[:, 0, :num_queries]
    return kept.reshape(k0.shape[0], num_queries * num_keys)


class Dropout(nn.Module):
    """Drops single features of [B, T, D] activations in training; no parameters.

    Attributes:
      rate: drop probability in [0, 1), a number or a traced scalar; None leaves the site out of the
        program.
      site: this site's number (`jaxreg.rng.site`), folded into the key; distinct sites draw
        distinct masks. May be traced.
      deterministic: True is evaluation, False training; None leaves it to the call (`is_training`).

    Randomness: `dropout_key` if given, else the "dropout" stream of Flax.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> x, key = jnp.ones((2, 3, 4)), jax.random.key(0)
      >>> y = jnn.Dropout(0.5).apply({}, x, train=True, dropout_key=key)
      >>> sorted(set(y.ravel().tolist()))
      [0.0, 2.0]
      >>> bool((jnn.Dropout(0.5).apply({}, x) == x).all())  # evaluation
      True
    """

    rate: Rate
    site: int | Int[Array, ""] = 0
    deterministic: bool | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b t d"]:
        """`x`, with features dropped in training."""
        if not is_training(train, deterministic, self.deterministic) or self.rate is None:
            return x
        key = site_key(self, dropout_key, self.site)
        return position_keyed_dropout(x, self.rate, key, example_ids)


def is_training(train: Any, deterministic: Any, attribute: Any = None) -> bool:
    """Whether to drop, from the call or else its module; False if neither is given.

    Args:
      train, deterministic: of the call, each the other's opposite; one of them, or neither.
      attribute: the module's `deterministic`, which excludes both, as in `flax.linen.merge_param`.

    Raises:
      ValueError: given twice, or a traced value.
    """
    own = "the module's deterministic"
    given = {"train": train, "deterministic": deterministic, own: attribute}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        both = " and ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"{both}: said twice; allowed is one of them")
    for name, value in given.items():
        if isinstance(value, jax.core.Tracer):
            raise ValueError(
                f"{name}: a traced value; allowed is True or False: pass it by position, and give"
                " nn.remat its place as static_argnums (self is 0), nn.vmap and nn.scan in_axes of"
                " None or nn.broadcast, jax.jit static_argnums"
            )
        return bool(value) == (name == "train")
    return False


def site_key(module: nn.Module, dropout_key: PRNGKey | None, site: int | Int[Array, ""]) -> PRNGKey:
    """The key of one site: the site folded into `dropout_key` or the "dropout" stream's key."""
    return folded(module.make_rng("dropout") if dropout_key is None else dropout_key, site)


def folded(dropout_key: PRNGKey, site: int | Int[Array, ""]) -> PRNGKey:
    """fold_in(dropout_key, site): the call key of `jaxreg.attention.masks`."""
    return jax.random.fold_in(masks.as_typed_keys(dropout_key), site)

"""Attention functions with one planted fault each, all variations of one sound function.

Each fault is a change that somebody has made or could make: FACTS of other libraries, or a slip in
a kernel.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

MINIMUM = float(jnp.finfo(jnp.float32).min)


def words(key):
    return jax.random.key_data(key)


def mixed(x):
    """Another word for each word: Prospector's lowbias32."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def drawn(key, shape):
    """[B, H, T, S] of 24-bit draws: a hash of the key and the connection's number."""
    index = jnp.arange(np.prod(shape), dtype=jnp.uint32).reshape(shape)
    k0, k1 = words(key)
    return mixed(mixed(mixed(index ^ k0) + k1) ^ jnp.uint32(0x9E3779B9)) >> 8


def refuse(rate):
    if not isinstance(rate, jax.core.Tracer) and not 0 <= rate < 1:
        raise ValueError(f"dropout_rate {rate}: not in [0, 1)")


def kept(key, rate, shape):
    return drawn(key, shape) >= jnp.float32(rate) * 2**24


def by_weights(logits, allowed, key, rate, *, kept=kept, scale=lambda rate: 1 / (1 - rate)):
    """softmax, then dropout."""
    weights = jax.nn.softmax(jnp.where(allowed, logits, MINIMUM), axis=-1)
    return (
        weights
        if rate is None
        else jnp.where(kept(key, rate, weights.shape), weights * scale(rate), 0)
    )


def make(*, applied=by_weights, refuse=refuse, hears=lambda **given: given, attend=None):
    """A sound attention function, but for what is given.

    applied: (logits, allowed, key, rate or None) -> applied weights.
    refuse: what is said to a rate. hears: what becomes of the arguments.
    attend: (query, key, value, logits' scale, allowed, bias, dropout key, rate or None) -> output.
    """
    attend = attend or partial(attend_by, applied)

    def attention(
        query,
        key,
        value,
        bias=None,
        mask=None,
        dropout_rng=None,
        dropout_rate=0.0,
        deterministic=False,
        is_causal=False,
        scale=None,
    ):
        heard = hears(
            bias=bias,
            mask=mask,
            dropout_rng=dropout_rng,
            dropout_rate=dropout_rate,
            deterministic=deterministic,
            is_causal=is_causal,
            scale=scale,
        )
        refuse(heard["dropout_rate"])
        rate = (
            None
            if heard["deterministic"] or heard["dropout_rng"] is None
            else heard["dropout_rate"]
        )
        t, s = query.shape[1], key.shape[1]
        allowed = jnp.ones((1, 1, t, s), bool) if heard["mask"] is None else heard["mask"]
        allowed = allowed & jnp.tri(t, s, dtype=bool) if heard["is_causal"] else allowed
        scale = query.shape[-1] ** -0.5 if heard["scale"] is None else heard["scale"]
        bias = jnp.zeros((1, 1, 1, 1)) if heard["bias"] is None else heard["bias"]
        return attend(query, key, value, scale, allowed, bias, heard["dropout_rng"], rate)

    return attention


def attend_by(applied, query, key, value, scale, allowed, bias, dropout_key, rate):
    logits = jnp.einsum("bthk,bshk->bhts", query, key) * scale + bias
    return jnp.einsum("bhts,bshk->bthk", applied(logits, allowed, dropout_key, rate), value)


SOUND = make()


def hearing(**changes):
    """What `make` takes as `hears`: these arguments are heard as something else."""
    return lambda **given: given | {name: change(given[name]) for name, change in changes.items()}


def resurrecting(logits, allowed, key, rate):
    """DropKey as published: a row whose allowed keys are all dropped reads every key."""
    dropped = allowed if rate is None else allowed & kept(key, rate, logits.shape)
    return jax.nn.softmax(jnp.where(dropped, logits, MINIMUM), axis=-1)


def with_backward(backward, *, seen=lambda allowed: allowed):
    """The sound function with a backward pass by hand: backward(weights, mask * scale, other mask *
    scale, value, cotangent).

    seen: what the backward pass takes for the allowed keys.
    """

    def attend(query, key, value, scale, allowed, bias, dropout_key, rate):
        # Every array is an argument: a custom_vjp that closes over tracers cannot be
        # rematerialised.
        @jax.custom_vjp
        def inner(query, key, value, allowed, bias, dropout_key):
            return attend_by(by_weights, query, key, value, scale, allowed, bias, dropout_key, rate)

        def forward(*given):
            return inner(*given), given

        def back(saved, cotangent):
            query, key, value, allowed, bias, dropout_key = saved
            allowed = seen(allowed)
            logits = jnp.einsum("bthk,bshk->bhts", query, key) * scale + bias
            weights = jax.nn.softmax(jnp.where(allowed, logits, MINIMUM), axis=-1)
            factors = [1.0, 1.0]
            if rate is not None:
                other_key = jax.random.wrap_key_data(words(dropout_key) + jnp.uint32(1))
                factors = [
                    kept(key_, rate, weights.shape) / (1 - rate)
                    for key_ in (dropout_key, other_key)
                ]
            d_logits, d_value = backward(weights, *factors, value, cotangent)
            d_query = jnp.einsum("bhts,bshk->bthk", d_logits, key) * scale
            d_key = jnp.einsum("bhts,bthk->bshk", d_logits, query) * scale
            return d_query, d_key, d_value, None, None, None

        inner.defvjp(forward, back)
        return inner(query, key, value, allowed, bias, dropout_key)

    return make(attend=attend)


def pieces(weights, factor, value, cotangent, *, row_sum_of=None):
    """Gradients of the logits and of the values for one mask; `row_sum_of` is the factor in the
    softmax's row sum.
    """
    d_weights = factor * jnp.einsum("bthk,bshk->bhts", cotangent, value)
    in_sum = (
        d_weights
        if row_sum_of is None
        else row_sum_of * jnp.einsum("bthk,bshk->bhts", cotangent, value)
    )
    d_logits = weights * (d_weights - jnp.sum(weights * in_sum, -1, keepdims=True))
    return d_logits, jnp.einsum("bhts,bthk->bshk", weights * factor, cotangent)


def sound_backward(weights, mask, other, value, cotangent):
    return pieces(weights, mask, value, cotangent)


def all_other(weights, mask, other, value, cotangent):
    return pieces(weights, other, value, cotangent)


def values_other(weights, mask, other, value, cotangent):
    return pieces(weights, mask, value, cotangent)[0], pieces(weights, other, value, cotangent)[1]


def other_far_away(weights, mask, other, value, cotangent):
    """Blocks of 128 queries and keys in the backward pass; all but the first seeded otherwise."""
    down, right = (jnp.arange(length) < 128 for length in weights.shape[2:])
    return pieces(weights, jnp.where(down[:, None] & right, mask, other), value, cotangent)


def row_sum_undropped(weights, mask, other, value, cotangent):
    return pieces(weights, mask, value, cotangent, row_sum_of=1.0)


class Redrawing:
    """Keeps a state of its own, as generators with a state do: each forward pass before the
    backward pass draws anew.
    """

    def __init__(self):
        self.passes = 0
        self.function = make(applied=self.applied)

    def applied(self, logits, allowed, key, rate):
        weights = jax.nn.softmax(jnp.where(allowed, logits, MINIMUM), axis=-1)
        if rate is None:
            return weights
        sound = partial(kept, rate=rate, shape=logits.shape)

        @jax.custom_vjp
        def drop(weights, data):
            return jnp.where(sound(jax.random.wrap_key_data(data)), weights / (1 - rate), 0)

        def forward(weights, data):
            # Hangs on the weights, so that it is called when they are made.
            turn = jax.pure_callback(
                self.enter, jax.ShapeDtypeStruct((), jnp.uint32), weights[0, 0, 0, 0]
            )
            keep = sound(jax.random.wrap_key_data(data + turn))
            return jnp.where(keep, weights / (1 - rate), 0), keep

        def back(keep, cotangent):
            done = jax.pure_callback(
                self.leave, jax.ShapeDtypeStruct((), jnp.uint32), cotangent[0, 0, 0, 0]
            )
            return jnp.where(keep, cotangent / (1 - rate), 0) + done.astype(
                cotangent.dtype
            ), np.zeros(2, jax.dtypes.float0)

        drop.defvjp(forward, back)
        return drop(weights, words(key))

    def enter(self, _):
        self.passes += 1
        return np.uint32(self.passes - 1)

    def leave(self, _):
        self.passes = 0
        return np.uint32(0)


def kept_in_8_bits(key, rate, shape):
    return drawn(key, shape) >> 16 >= jnp.round(jnp.float32(rate) * 256).astype(jnp.uint32)


def kept_too_often(key, rate, shape):
    return kept(key, 0.9 * rate, shape)


def kept_in_every_fourth_query(key, rate, shape):
    return kept(key, rate, shape) | (jnp.arange(shape[2]) % 4 == 3)[:, None]


def kept_by_head(key, rate, shape):
    """One head drops more, the other less; together they keep as many as they should."""
    return drawn(key, shape) >= 2**24 * jnp.float32(rate) * jnp.array([0.9, 1.1]).reshape(2, 1, 1)


def kept_by_first_key(key, rate, shape):
    """A kernel that knows one seed only: mapped over keys, it takes the first."""

    @jax.custom_batching.custom_vmap
    def draw(data):
        return kept(jax.random.wrap_key_data(data), rate, shape)

    @draw.def_vmap
    def _(size, batched, data):
        one = draw(data[0] if batched[0] else data)
        return jnp.broadcast_to(one, (size, *one.shape)), True

    return draw(words(key))


def kept_by_tile(key, rate, shape):
    """A kernel that seeds each tile of 128 x 128 with the sum of its numbers."""
    b, h, t, s = shape
    down, right = jnp.arange(t)[:, None], jnp.arange(s)
    tile = down // 128 + right // 128
    place = ((tile * 128 + down % 128) * 128 + right % 128).astype(jnp.uint32)
    k0, k1 = words(key)
    head = jnp.arange(b * h, dtype=jnp.uint32).reshape(b, h, 1, 1) * jnp.uint32(0x9E3779B9)
    return mixed(mixed(mixed(place ^ k0) + k1) ^ head) >> 8 >= jnp.float32(rate) * 2**24


def kept_otherwise_when_compiled(key, rate, shape):
    # By the key or the rate, so that one program draws alike whichever of them is traced.
    compiled = isinstance(key, jax.core.Tracer) or isinstance(rate, jax.core.Tracer)
    data = words(key) + jnp.uint32(compiled)
    return kept(jax.random.wrap_key_data(data), rate, shape)


def mask_from_values(query, key, value, scale, allowed, bias, dropout_key, rate):
    """Seeds with the data, as some kernels do that have no key."""
    if rate is not None:
        seen = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(value)[0, 0, 0, 0], jnp.uint32)
        dropout_key = jax.random.wrap_key_data(words(dropout_key) ^ seen)
    return attend_by(by_weights, query, key, value, scale, allowed, bias, dropout_key, rate)


def minus_infinity(logits, allowed, key, rate):
    """Masks with minus infinity: a row of nothing else is 0 / 0."""
    weights = jax.nn.softmax(jnp.where(allowed, logits, -jnp.inf), axis=-1)
    return (
        weights
        if rate is None
        else jnp.where(kept(key, rate, weights.shape), weights / (1 - rate), 0)
    )


def swallowing(query, key, value, **_):
    return SOUND(query, key, value)


def passing_on(query, key, value, **given):
    """Honours everything, but Flax cannot know it."""
    return SOUND(query, key, value, **given)


def accepting(condition):
    """Refuses as the sound one, but not where `condition` holds."""
    return lambda rate: (
        None if not isinstance(rate, jax.core.Tracer) and condition(rate) else refuse(rate)
    )


def with_kept(draw):
    return make(applied=partial(by_weights, kept=draw))


FAULTS = {
    "a masked key comes back": (make(applied=resurrecting), {"masked", "gradient"}),
    "the logits are not scaled": (
        make(hears=hearing(scale=lambda x: 1.0 if x is None else x)),
        {"plain", "arguments", "gradient"},
    ),
    "the mask depends on the values": (
        make(attend=mask_from_values),
        {"replay", "backward_mask", "gradient"},
    ),
    "the backward pass drops others": (with_backward(all_other), {"backward_mask", "gradient"}),
    "the values' gradient drops others": (
        with_backward(values_other),
        {"backward_mask", "gradient"},
    ),
    "the softmax's row sum lacks dropout": (with_backward(row_sum_undropped), {"gradient"}),
    "the backward pass reads forbidden keys": (
        with_backward(sound_backward, seen=jnp.ones_like),
        {"gradient"},
    ),
    "redrawn under remat": (Redrawing().function, {"remat"}),
    "evaluation drops": (make(hears=hearing(deterministic=lambda _: False)), {"deterministic"}),
    "one seed for ever": (
        make(hears=hearing(dropout_rng=lambda key: key if key is None else jax.random.key(0))),
        {"keys"},
    ),
    "8 bits of rate, exact scale": (with_kept(kept_in_8_bits), {"scale"}),
    "no scale": (make(applied=partial(by_weights, scale=lambda rate: 1.0)), {"scale", "unbiased"}),
    "keeps too many": (
        make(
            applied=partial(
                by_weights, kept=kept_too_often, scale=lambda rate: 1 / (1 - 0.9 * rate)
            )
        ),
        {"keep_rate"},
    ),
    "one head drops more": (with_kept(kept_by_head), {"keep_rate", "unbiased"}),
    "one lane is never dropped": (
        with_kept(kept_in_every_fourth_query),
        {"keep_rate", "scale", "unbiased"},
    ),
    "the rate is ignored": (make(hears=hearing(dropout_rate=lambda _: 0.0)), {"arguments"}),
    "the mask is ignored": (make(hears=hearing(mask=lambda _: None)), {"arguments"}),
    "the causal mask is ignored": (make(hears=hearing(is_causal=lambda _: False)), {"arguments"}),
    "the bias is ignored": (make(hears=hearing(bias=lambda _: None)), {"arguments"}),
    "the scale is upside down": (make(hears=hearing(scale=lambda x: x and 1 / x)), {"arguments"}),
    "everything is swallowed": (swallowing, {"arguments", "flax"}),
    "everything is passed on": (passing_on, {"flax"}),
    "a negative rate passes": (make(refuse=accepting(lambda rate: rate < 0)), {"rate_negative"}),
    "a rate above 1 passes": (make(refuse=accepting(lambda rate: rate > 1)), {"rate_above_1"}),
    "a rate of NaN passes": (make(refuse=accepting(lambda rate: rate != rate)), {"rate_nan"}),
    "a rate of 1 divides by 0": (
        make(
            refuse=accepting(lambda rate: rate == 1),
            applied=partial(
                by_weights,
                scale=lambda rate: jnp.inf if rate == 1 else 1 / (1 - rate),
                kept=lambda key, rate, shape: kept(key, rate, shape) | (rate == 1),
            ),
        ),
        {"rate_1"},
    ),
    "a rate of 0 becomes the default": (
        make(hears=hearing(dropout_rate=lambda rate: rate or 0.1)),
        {"rate_0"},
    ),
    "a traced rate is another": (
        make(
            hears=hearing(
                dropout_rate=lambda rate: rate * 0.9 if isinstance(rate, jax.core.Tracer) else rate
            )
        ),
        {"traced_rate"},
    ),
    "an empty row is NaN": (make(applied=minus_infinity), {"empty_rows"}),
    "vmap takes the first key": (with_kept(kept_by_first_key), {"vmap"}),
    "compiled it draws otherwise": (with_kept(kept_otherwise_when_compiled), {"jit"}),
}
"""Name -> (function, the checks that must fail, and no other)."""

FAR_FAULTS = {
    "a pattern comes back": (with_kept(kept_by_tile), {"repeats"}),
    "the backward pass has other blocks": (
        with_backward(other_far_away),
        {"backward_mask", "gradient"},
    ),
}
"""The same, for faults that only long sequences show."""

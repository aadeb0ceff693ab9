"""Blockwise attention against the materialised one: every option, gradients, transformations; and
no array of T x S anywhere.
"""

import math
import re
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxreg import AttentionDropout, dot_product_attention, keep_mask
from jaxreg.attention import api, masks
from jaxreg.attention.blockwise import kernel, tiles
from jaxreg.attention.inputs import inputs_of

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
KEY = jax.random.key(8)
DROPOUT = {"dropout": AttentionDropout(0.3), "dropout_key": KEY}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def coin(seed, *shape, p=0.5):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < p)


def inputs(t, s, h=2, g=2, k=8, b=2):
    return normal(1, b, t, h, k), normal(2, b, s, g, k), normal(3, b, s, g, k)


def with_gradients(attention, *floats, cotangent):
    """The output and the gradients for all `floats`."""

    def both(*floats):
        out, back = jax.vjp(attention, *floats)
        return out, *back(cotangent.astype(out.dtype))

    return jax.jit(both, compiler_options=FAST)(*floats)


def close(found, expected, tolerance=2e-5):
    """Largest differences, as a part of the largest entry; the outputs first."""
    off = [
        float(jnp.max(jnp.abs(x - y)) / jnp.maximum(jnp.max(jnp.abs(y)), 1e-9))
        for x, y in zip(found, expected, strict=True)
    ]
    assert max(off) < tolerance, off


def compared(q, k, v, bias=None, tolerance=2e-5, **options):
    floats, cotangent = ((q, k, v) if bias is None else (q, k, v, bias)), normal(9, *q.shape)
    found, expected = (
        with_gradients(
            lambda *x, name=name: dot_product_attention(*x, **options, implementation=name),
            *floats,
            cotangent=cotangent,
        )
        for name in ("blockwise", "reference")
    )
    assert all(
        x.dtype == y.dtype and x.shape == y.shape for x, y in zip(found, expected, strict=True)
    )
    close(found, expected, tolerance)


# More tiles than one in both directions, and none that the lengths fill.
T, S = 530, 1030
CASES = {
    "plain": lambda: {},
    "causal": lambda: {"is_causal": True},
    "dropout": lambda: DROPOUT,
    "causal, dropout": lambda: {"is_causal": True} | DROPOUT,
    "mask per head, causal, dropout": lambda: (
        {"mask": coin(4, 2, 2, T, S), "is_causal": True} | DROPOUT
    ),
    "bias of all examples and heads, droppable": lambda: (
        {"bias": normal(5, T, S), "droppable": coin(6, 1, 1, T, S)} | DROPOUT
    ),
    "bias per head and key, scale": lambda: {"bias": normal(5, 2, 1, S), "scale": 0.7} | DROPOUT,
    "DropKey, causal, mask": lambda: {
        "is_causal": True,
        "mask": coin(4, 1, 1, T, S),
        "dropout": AttentionDropout(0.6, stage="logits"),
        "dropout_key": KEY,
    },
    "spans shared by heads": lambda: {
        "dropout": AttentionDropout(0.4, "span", share=("head",), span_length=5),
        "dropout_key": KEY,
    },
    "keys": lambda: {
        "is_causal": True,
        "dropout": AttentionDropout(0.4, "key"),
        "dropout_key": KEY,
    },
}


@pytest.mark.short_cases("mask per head, causal, dropout")
@pytest.mark.parametrize("name", CASES)
def test_long_sequences_equal_the_reference(name):
    compared(*inputs(T, S), **CASES[name]())


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    ("t", "s", "h", "g"), [(1, 5, 2, 1), (7, 3, 4, 2), (17, 33, 4, 4), (600, 40, 4, 1)]
)
def test_other_lengths_and_grouped_heads(t, s, h, g):
    compared(*inputs(t, s, h, g), is_causal=1 < t <= s, **DROPOUT)


@pytest.mark.system
def test_a_row_that_may_read_nothing_is_the_mean_of_all_real_values():
    mask = (
        coin(4, 2, 1, T, S)
        .at[:, :, 3]
        .set(False)
        .at[1, :, -1]
        .set(False)
        .at[0, 0, 2, :3]
        .set(False)
    )
    for causal in (False, True):
        for dropout in (
            DROPOUT if causal else {},
            {"dropout": AttentionDropout(0.5, stage="logits"), "dropout_key": KEY},
        ):
            compared(*inputs(T, S), mask=mask, is_causal=causal, **dropout)
    q, k, v = inputs(T, S)
    out = dot_product_attention(q, k, v, mask=mask, is_causal=True, implementation="blockwise")
    # Query 2 of example 0 may read no key up to itself: it reads those behind it as well, as in the
    # reference and in Flax.
    np.testing.assert_allclose(
        out[0, 2:4], jnp.broadcast_to(v[0].mean(0), (2, *v.shape[2:])), rtol=1e-4, atol=1e-5
    )


@pytest.mark.system
def test_bfloat16_goes_in_and_out_with_a_float32_softmax():
    q, k, v = (x.astype(jnp.bfloat16) for x in inputs(T, S))
    exact = dot_product_attention(
        *(x.astype(jnp.float32) for x in (q, k, v)), is_causal=True, **DROPOUT
    )
    out = dot_product_attention(q, k, v, is_causal=True, **DROPOUT, implementation="blockwise")
    assert out.dtype == jnp.bfloat16
    assert float(jnp.max(jnp.abs(out.astype(jnp.float32) - exact))) < 0.01 * float(
        jnp.max(jnp.abs(exact))
    )
    compared(q, k, v, is_causal=True, **DROPOUT, tolerance=0.03)


BLOCKS = [(4, 16, 1), (16, 4, 2), (32, 32, 0), (64, 48, 0), (None, None, None)]


@pytest.mark.system
@pytest.mark.parametrize(
    "dropout",
    [AttentionDropout(0.4), AttentionDropout(0.7, stage="logits")],
    ids=["weights", "logits"],
)
def test_blocks_change_neither_mask_nor_result(dropout):
    t, s = 61, 53
    q, k, _ = inputs(t, s, k=s)
    v = jnp.broadcast_to(jnp.eye(s)[:, None], (2, s, 2, s))
    words = masks.mask_words(dropout, KEY, None, 2, jnp.arange(2))
    runs = [
        with_gradients(
            lambda q, k, v, n=n: kernel.attention(
                *inputs_of(q, k, v, None, None, None, words, dropout, is_causal=True, scale=0.1),
                query_block=n[0],
                key_block=n[1],
                heads_at_once=n[2],
            ),
            q,
            k,
            v,
            cotangent=normal(9, 2, t, 2, s),
        )
        for n in BLOCKS
    ]
    kept = keep_mask(
        dropout,
        KEY,
        examples=jnp.arange(2),
        heads=jnp.arange(2),
        queries=jnp.arange(t),
        keys=jnp.arange(s),
    )
    allowed = jnp.tri(t, s, dtype=bool)
    if dropout.stage == "logits":
        kept = jnp.where(jnp.any(kept & allowed, -1, keepdims=True), kept, True)
    for run in runs:
        np.testing.assert_array_equal(run[0].swapaxes(1, 2) > 0, kept & allowed)
        close(run, runs[-1])


def layers(implementation):
    """Three layers by scan, remat in each, mapped over two keys; what trains is the input and a
    scale of the logits.
    """

    def layer(x, site):
        out = dot_product_attention(
            x,
            x,
            x,
            is_causal=True,
            dropout=AttentionDropout(0.2),
            dropout_key=jax.random.fold_in(KEY, site),
            implementation=implementation,
        )
        return x + out, None

    def run(x, rate_key):
        x, _ = jax.lax.scan(jax.checkpoint(layer), x, jnp.arange(3))
        return dot_product_attention(
            x,
            x,
            x,
            dropout=AttentionDropout(0.5),
            dropout_key=rate_key,
            implementation=implementation,
        )

    return jax.vmap(run, (None, 0), 1)


@pytest.mark.system
def test_scan_remat_vmap_and_gradients(monkeypatch):
    monkeypatch.setattr(kernel, "ROWS", 8)
    x, keys = normal(1, 2, 21, 2, 4), jax.random.split(KEY, 2)
    found, expected = (
        with_gradients(lambda x, f=f: f(x, keys), x, cotangent=normal(9, 2, 2, 21, 2, 4))
        for f in (layers("blockwise"), layers("reference"))
    )
    close(found, expected, 2e-4)


def local(implementation, reduce):
    """Gradients of a loss on a local batch whose bias is shared by all devices."""

    def run(q, k, v, bias, ids, cotangent):
        def loss(q, k, v, bias):
            out = dot_product_attention(
                q,
                k,
                v,
                bias,
                is_causal=True,
                **DROPOUT,
                example_ids=ids,
                implementation=implementation,
            )
            return jnp.sum(out * cotangent)

        *own, shared = jax.grad(loss, (0, 1, 2, 3))(q, k, v, bias)
        return *own, reduce(shared)

    return run


@pytest.mark.system
@pytest.mark.parametrize("layout", ["pmap", "shard_map"])
def test_gradients_on_two_devices_are_those_on_one(layout, monkeypatch):
    monkeypatch.setattr(kernel, "ROWS", 8)
    q, k, v = inputs(19, 19, b=4)
    bias, ids, cotangent = normal(7, 2, 19, 19), jnp.array([5, 2, 9, 0]), normal(9, *q.shape)
    expected = jax.jit(local("reference", lambda x: x))(q, k, v, bias, ids, cotangent)
    if layout == "pmap":

        def split(x):
            return x.reshape(2, 2, *x.shape[1:])

        found = jax.pmap(
            local("blockwise", lambda x: jax.lax.psum(x, "d")),
            axis_name="d",
            in_axes=(0, 0, 0, None, 0, 0),
        )(*map(split, (q, k, v)), bias, split(ids), split(cotangent))
        found = [*(x.reshape(q.shape) for x in found[:3]), found[3][0]]
    else:
        spec, mesh = PartitionSpec("d"), Mesh(np.array(jax.devices()[:2]), ("d",))
        found = jax.jit(
            jax.shard_map(
                local("blockwise", lambda x: x),
                mesh=mesh,
                in_specs=(spec, spec, spec, PartitionSpec(), spec, spec),
                out_specs=(spec, spec, spec, PartitionSpec()),
            )
        )(q, k, v, bias, ids, cotangent)
    close(found, expected)


def compiled(length, *, rate=0.1, traced=False, implementation="blockwise", heads=1, options=None):
    def both(q, k, v, cotangent, given):
        dropout = AttentionDropout(given if traced else rate)
        out, back = jax.vjp(
            lambda *x: dot_product_attention(
                *x, is_causal=True, dropout=dropout, dropout_key=KEY, implementation=implementation
            ),
            q,
            k,
            v,
        )
        return out, back(cotangent)

    x = jax.ShapeDtypeStruct((1, length, heads, 16), "float32")
    return jax.jit(both, compiler_options=options).lower(x, x, x, x, 0.1).compile()


def largest_array(program):
    return max(
        math.prod(map(int, found.split(",")))
        for found in re.findall(r"\w+\[([\d,]+)\]", program.as_text())
    )


def test_no_array_of_t_by_s_exists_and_memory_grows_with_the_length():
    one, two = (compiled(n, options=FAST) for n in (4096, 8192))
    assert largest_array(two) < 8192 * 8192 / 50
    assert (
        largest_array(compiled(1024, implementation="reference", options=FAST)) >= 1024 * 1024
    )  # the search does find it there
    growth = two.memory_analysis().temp_size_in_bytes / one.memory_analysis().temp_size_in_bytes
    assert growth < 2.1


def test_none_chooses_by_size():
    edge = math.isqrt(api.BLOCKWISE_FROM)
    long = 4 * edge  # more than one tile
    assert largest_array(compiled(long, implementation=None, options=FAST)) < long**2
    assert largest_array(compiled(edge // 2, implementation=None, options=FAST)) >= (edge // 2) ** 2


@pytest.mark.short_cases("blockwise")
@pytest.mark.optimized
@pytest.mark.parametrize("implementation", ["blockwise", "reference"])
def test_a_constant_rate_draws_the_bits_no_more_often_than_a_traced_one(implementation):
    # XLA folded the conditional of a constant rate once, and fused Threefry into every user of its
    # bits: the time doubled.
    rotations = {
        traced: len(
            re.findall(
                r" shift-left\(",
                compiled(64, traced=traced, implementation=implementation).as_text(),
            )
        )
        for traced in (False, True)
    }
    assert 13 <= rotations[False] <= rotations[True] + 2


@pytest.mark.system
def test_products_with_the_hessian_are_the_reference_s():
    # Forward over reverse works; forward alone, and reverse over reverse, do not: JAX says so, and
    # the docstring.
    q, k, v = inputs(5, 5)

    def loss(x, name):
        return jnp.sum(dot_product_attention(x, k, v, **DROPOUT, implementation=name) ** 2)

    found, expected = (
        jax.jvp(jax.grad(partial(loss, name=name)), (q,), (normal(4, *q.shape),))
        for name in ("blockwise", "reference")
    )
    close(found, expected, 1e-4)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(partial(loss, name="blockwise"), (q,), (q,))


def test_the_sign_of_a_weight_says_whether_it_is_kept():
    some = [0.0, 0.5, math.nan, math.copysign(math.nan, -1)]
    weights, keep = np.array(some * 2, np.float32), np.arange(8) < 4
    found, kept = tiles.marked(jnp.asarray(weights), jnp.asarray(keep))
    np.testing.assert_array_equal(found, weights)
    np.testing.assert_array_equal(kept, keep)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_it_lowers_for_accelerators(platform):
    # All heads at once, static shapes, no host callbacks; what it compiles to there is not seen
    # here.
    q, k, v = inputs(T, S)
    gradient = jax.jit(
        jax.grad(
            lambda q, k, v: jnp.sum(
                dot_product_attention(
                    q, k, v, is_causal=True, **DROPOUT, implementation="blockwise"
                )
            )
        )
    )
    text = jax.export.export(gradient, platforms=[platform])(q, k, v).mlir_module()
    assert "dynamic_reshape" not in text and "callback" not in text and "?x" not in text

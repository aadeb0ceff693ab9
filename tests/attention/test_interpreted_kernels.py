"""The kernels of TPU and GPU, interpreted on CPU: masks bit for bit, results against the
reference.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import AttentionDropout, keep_mask
from jaxreg.attention.pallas_gpu.plan import Tile, Tiles
from tests.helpers import attention_calls as calls
from tests.helpers.attention_calls import Call, by_reference, close, with_gradients
from tests.helpers.kernels import GPU_TILES, by_gpu, by_tpu, use_small_tpu_tiles


class Kernel(NamedTuple):
    """A kernel, and the sizes at which a short sequence is several of its tiles."""

    attention: Callable
    lengths: tuple[int, int]
    call: Call
    shapes: tuple[Call, ...]
    tolerances: dict[str, float]
    tiles: tuple[dict, ...] = ({},)


KERNELS = {
    "tpu": Kernel(
        by_tpu,
        lengths=(75, 290),
        call=Call(2, 75, 290, 4, 2, 8, 6),
        shapes=(
            Call(2, 64, 256, 2, 2, 16, 16),
            Call(1, 330, 330, 1, 1, 5, 3),
            Call(1, 4, 600, 3, 1),
        ),
        tolerances={"float32": 1e-5, "bfloat16": 0.03},
    ),
    "gpu": Kernel(
        by_gpu,
        lengths=(13, 11),
        call=Call(),
        shapes=(Call(2, 16, 16, 2, 2, 16, 16), Call(1, 33, 17, 6, 2, 5, 3), Call(1, 4, 40, 3, 1)),
        tolerances={"float32": 1e-5, "bfloat16": 0.03, "float16": 4e-3},
        tiles=tuple(
            {"tiles": x} for x in (GPU_TILES, Tiles(*[Tile(4, 2)] * 3), Tiles(*[Tile(8, 16)] * 3))
        ),
    ),
}
SHAPES = (Call(1, 1, 5, 2, 1), Call(1, 7, 3, 4, 4))
"""Besides those of each kernel: one query, and fewer keys than queries."""
DROPOUTS = {
    "connections": AttentionDropout(0.4),
    "connections, bits 2": AttentionDropout(0.4, bits=2),
    "spans, bits version 2": AttentionDropout(0.4, "span", span_length=3, bits=2),
    "spans": AttentionDropout(0.4, "span", span_length=3),
    "shared by heads and examples": AttentionDropout(0.4, share=("head", "example")),
    "keys": AttentionDropout(0.4, "key"),
    "queries": AttentionDropout(0.4, "query"),
    "logits": AttentionDropout(0.7, stage="logits"),
}
B, H = 2, 2


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    use_small_tpu_tiles(monkeypatch)


def kept(dropout, t, s):
    numbers = {"examples": B, "heads": H, "queries": t, "keys": s}
    positions = {name: jnp.arange(n) for name, n in numbers.items()}
    mask = np.asarray(keep_mask(dropout, calls.KEY, **positions))
    if dropout.stage == "logits":
        return np.where(mask.any(-1, keepdims=True), mask, True)
    return mask


def each_mask(test):
    """Over the kernels, their tiles, and the kinds of dropout."""
    cases = {
        f"{place}-{name}-{i}": (kernel, kernel.tiles[i], dropout)
        for place, kernel in KERNELS.items()
        for name, dropout in DROPOUTS.items()
        for i in range(len(kernel.tiles))
    }
    return pytest.mark.parametrize("kernel, tiles, dropout", cases.values(), ids=cases)(test)


def weights(kernel, tiles, dropout):
    """f(values): the weights, where the values are the identity."""
    t, s = kernel.lengths
    query, key = jnp.zeros((B, t, H, 2)), jnp.zeros((B, s, H, 2))
    return lambda value: kernel.attention(query, key, value, dropout=dropout, **tiles)


def each_row(count, width):
    """The identity for every example and head, with columns of zeros up to a width."""
    return jnp.broadcast_to(jnp.eye(count, width)[:, None], (B, count, H, width))


@pytest.mark.system
@each_mask
def test_both_passes_draw_the_mask_of_keep_mask(kernel, tiles, dropout):
    """In one program. The gradient of the values is the transposed weights times what comes in."""
    t, s = kernel.lengths

    def both(value, cotangent):
        out, back = jax.vjp(weights(kernel, tiles, dropout), value)
        return out, back(cotangent)[0]

    width = max(t, s)
    arrays = each_row(s, width), each_row(t, width)
    forward, backward = map(np.asarray, jax.jit(both, compiler_options=calls.FAST)(*arrays))
    expected = kept(dropout, t, s)
    np.testing.assert_array_equal(forward[..., :s].swapaxes(1, 2) > 0, expected)
    np.testing.assert_array_equal(backward[..., :t].transpose(0, 2, 3, 1) > 0, expected)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_forward_pass_alone_draws_it_too(kernel):
    dropout, (t, s) = AttentionDropout(0.4), kernel.lengths
    run = jax.jit(weights(kernel, kernel.tiles[0], dropout), compiler_options=calls.FAST)
    out = np.asarray(run(each_row(s, s)))
    np.testing.assert_array_equal(out.swapaxes(1, 2) > 0, kept(dropout, t, s))


@pytest.mark.short_cases("tpu-causal, dropout")
@pytest.mark.parametrize(
    "place, name",
    [(place, name) for place in KERNELS for name in calls.SETTINGS],
    ids=lambda word: word,
)
def test_results_and_gradients_are_the_reference_s(place, name):
    kernel = KERNELS[place]
    settings = calls.settings_of(kernel.call)[name]
    found, expected = (
        with_gradients(attention, kernel.call, **settings)
        for attention in (kernel.attention, by_reference)
    )
    # A bias that is the same for all keys of a row has no gradient but that of rounding.
    close(found, expected, 3e-3 if name == "bias of each query" else 1e-5)


def sizes_and_dtypes():
    return {
        f"{place}-{'-'.join(map(str, call[:7]))}-{dtype}": (kernel, call, dtype)
        for place, kernel in KERNELS.items()
        for call in (*SHAPES, *kernel.shapes)
        for dtype in kernel.tolerances
    }


@pytest.mark.system
@pytest.mark.parametrize("kernel, call, dtype", sizes_and_dtypes().values(), ids=sizes_and_dtypes())
def test_shapes_and_dtypes(kernel, call, dtype):
    call = call._replace(dtype=dtype)
    settings = {"dropout": AttentionDropout(0.3), "is_causal": 1 < call.t <= call.s}
    found = with_gradients(kernel.attention, call, **settings)
    expected = with_gradients(by_reference, call, **settings)
    close(found, expected, kernel.tolerances[dtype])


@pytest.mark.system
@pytest.mark.parametrize("place, where", [("tpu", "value"), ("gpu", "value"), ("gpu", "key")])
def test_a_masked_row_that_is_no_number_reaches_what_it_does_in_the_reference(place, where):
    query, key, value = Call(1, 21, 21, 2, 2).inputs()
    mask = jnp.ones((1, 1, 1, 21), bool).at[..., 5].set(False)
    if where == "value":
        value = value.at[0, 5].set(jnp.nan)
    else:
        key = key.at[0, 5].set(jnp.nan)

    def gone(attention):
        def loss(*arrays):
            out = attention(*arrays, mask=mask)
            return jnp.sum(jnp.where(jnp.isnan(out), 0, out)), out

        gradients, out = jax.grad(loss, (0, 1, 2), has_aux=True)(query, key, value)
        return [np.isnan(x) for x in (out, *gradients)]

    kernel = KERNELS[place].attention
    for found, expected in zip(gone(kernel), gone(by_reference), strict=True):
        np.testing.assert_array_equal(found, expected)


def transformed(attention):
    """Two layers by scan, remat in each, mapped over two rates, with a traced scale."""

    def run(x, rate):
        def layer(x, scale):
            out = attention(x, x, x, dropout=AttentionDropout(rate), is_causal=True, scale=scale)
            return x + out, None

        return jax.lax.scan(jax.checkpoint(layer), x, jnp.array([0.3, 0.5]))[0]

    def both(x, rates, cotangent):
        out, back = jax.vjp(lambda x: jax.vmap(run, (None, 0))(x, rates), x)
        return out, *back(cotangent)

    rates = jnp.array([0.2, 0.5])
    arguments = calls.normal(1, 2, 9, 2, 4), rates, calls.normal(9, 2, 2, 9, 2, 4)
    return jax.jit(both, compiler_options=calls.FAST)(*arguments)


@pytest.mark.system
@pytest.mark.parametrize("place", KERNELS)
def test_scan_remat_vmap_and_traced_rates(place):
    close(transformed(KERNELS[place].attention), transformed(by_reference), 1e-4)

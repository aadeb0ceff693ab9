"""The GPU kernels, interpreted on CPU: the masks bit for bit, the results against the reference."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxreg import AttentionDropout, keep_mask
from jaxreg.attention.pallas_gpu import kernel
from jaxreg.attention.pallas_gpu.plan import Tile, Tiles, chosen_tiles
from tests.helpers import gpu_attention as gpu
from tests.helpers.gpu_attention import Call, by_kernel, by_reference, close, with_gradients

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
TILES = (gpu.SMALL, Tiles(*[Tile(4, 2)] * 3), Tiles(*[Tile(8, 16)] * 3))


def kept(dropout, b, h, t, s):
    numbers = {"examples": b, "heads": h, "queries": t, "keys": s}
    positions = {name: jnp.arange(n) for name, n in numbers.items()}
    mask = np.asarray(keep_mask(dropout, gpu.KEY, **positions))
    if dropout.stage == "logits":
        return np.where(mask.any(-1, keepdims=True), mask, True)
    return mask


B, T, S, H = 2, 13, 11, 2


def weights(dropout, tiles):
    """f(values): the weights, where the values are the identity."""
    query, key = jnp.zeros((B, T, H, 2)), jnp.zeros((B, S, H, 2))
    return lambda value: by_kernel(query, key, value, dropout=dropout, tiles=tiles)


IDENTITY = jnp.broadcast_to(jnp.eye(S)[:, None], (B, S, H, S))


@pytest.mark.short_cases("connections-tiles0")
@pytest.mark.parametrize("tiles", TILES, ids=["tiles0", "tiles1", "tiles2"])
@pytest.mark.parametrize("name", DROPOUTS)
def test_the_forward_pass_draws_the_mask_of_keep_mask(name, tiles):
    out = jax.jit(weights(DROPOUTS[name], tiles), compiler_options=gpu.FAST)(IDENTITY)
    found = np.asarray(out).swapaxes(1, 2)
    expected = kept(DROPOUTS[name], B, H, T, S)
    np.testing.assert_array_equal(found > 0, expected)


@pytest.mark.system
@pytest.mark.parametrize("tiles", TILES, ids=["tiles0", "tiles1", "tiles2"])
@pytest.mark.parametrize("name", DROPOUTS)
def test_the_backward_pass_draws_it_again(name, tiles):
    def gradient(value):
        # That of the values is the transposed weights times what comes in.
        cotangent = jnp.broadcast_to(jnp.eye(T)[:, None], (B, T, H, T))
        _, back = jax.vjp(weights(DROPOUTS[name], tiles), value)
        return back(cotangent)[0]

    value = jnp.zeros((B, S, H, T))
    found = jax.jit(gradient, compiler_options=gpu.FAST)(value)
    found = np.asarray(found).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found > 0, kept(DROPOUTS[name], B, H, T, S))


@pytest.mark.system
@pytest.mark.parametrize("name", gpu.SETTINGS)
def test_results_and_gradients_are_the_reference_s(name):
    call = Call()
    settings = gpu.settings_of(call)[name]
    found, expected = (
        with_gradients(attention, call, **settings) for attention in (by_kernel, by_reference)
    )
    close(found, expected, 1e-5)


SHAPES = [
    Call(1, 1, 5, 2, 1),
    Call(1, 7, 3, 4, 4),
    Call(2, 16, 16, 2, 2, 16, 16),
    Call(1, 33, 17, 6, 2, 5, 3),
    Call(1, 4, 40, 3, 1),
]


@pytest.mark.system
@pytest.mark.parametrize("call", SHAPES, ids=lambda x: "-".join(map(str, x[:7])))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_shapes_and_dtypes(call, dtype):
    call = call._replace(dtype=dtype)
    settings = {"dropout": AttentionDropout(0.3), "is_causal": call.t <= call.s}
    found = with_gradients(by_kernel, call, **settings)
    expected = with_gradients(by_reference, call, **settings)
    close(found, expected, {"float32": 1e-5, "bfloat16": 0.03, "float16": 4e-3}[dtype])


@pytest.mark.system
@pytest.mark.parametrize("where", ["value", "key"])
def test_a_masked_row_that_is_no_number_reaches_what_it_does_in_the_reference(where):
    call = Call(1, 21, 21, 2, 2)
    query, key, value = call.inputs()
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

    for found, expected in zip(gone(by_kernel), gone(by_reference), strict=True):
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
    arguments = gpu.normal(1, 2, 9, 2, 4), rates, gpu.normal(9, 2, 2, 9, 2, 4)
    return jax.jit(both, compiler_options=gpu.FAST)(*arguments)


@pytest.mark.system
def test_scan_remat_vmap_and_traced_rates():
    close(transformed(by_kernel), transformed(by_reference), 1e-4)


@pytest.mark.system
@pytest.mark.parametrize("rows", [PartitionSpec("d"), PartitionSpec(None, None, "d")])
def test_gradients_on_two_devices_are_those_on_one(rows):
    # Without check_vma: interpreted kernels do not know what varies (compiled ones do, see below).
    call = Call(2, 9, 9, 4, 4, 4, 4)
    arrays, cotangent = call.inputs(), call.cotangent()

    def gradients(cotangent, *arrays):
        dropout = AttentionDropout(0.3, share=("example", "head"))

        def loss(*arrays):
            return jnp.sum(by_kernel(*arrays, dropout=dropout, is_causal=True) * cotangent)

        return jax.grad(loss, (0, 1, 2))(*arrays)

    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    specs = {"in_specs": (rows,) * 4, "out_specs": (rows,) * 3, "check_vma": False}
    divided = jax.shard_map(gradients, mesh=mesh, **specs)
    found, expected = (
        jax.jit(f, compiler_options=gpu.FAST)(cotangent, *arrays) for f in (divided, gradients)
    )
    close(found, expected, 1e-5)


def test_what_the_kernels_cannot_do_is_said_in_one_line():
    call = Call()
    query, key, value = call.inputs()
    assert kernel.why_not(query, key, value) is None
    bad = {
        "dtype float64": (jax.ShapeDtypeStruct(x.shape, "float64") for x in (query, key, value)),
        "width 300": (jax.ShapeDtypeStruct((1, 2, 1, 300), "float32") for _ in range(3)),
        "empty": (query, key[:, :0], value[:, :0]),
    }
    found = {name: kernel.why_not(*arrays) for name, arrays in bad.items()}
    found["precision"] = kernel.why_not(query, key, value, precision="BF16_BF16_F32_X3")
    many = jax.ShapeDtypeStruct((1, 3, 2**15, 2**15), bool)
    found["mask with"] = kernel.why_not(query, key, value, mask=many)
    for name, line in found.items():
        assert line is not None and name in line and "\n" not in line


@pytest.mark.parametrize("precision", [None, "highest", jax.lax.Precision.HIGH, "tensorfloat32"])
def test_precisions_that_the_kernels_have(precision):
    assert kernel.why_not(*Call().inputs(), precision=precision) is None


def test_a_tile_covers_lanes_of_four_queries():
    sizes = itertools.product((16, 64, 128, 256), ("bfloat16", "float32"))
    for width, dtype in sizes:
        tiles = chosen_tiles(width, jnp.dtype(dtype))
        for tile in (tiles.forward, tiles.queries, tiles.keys):
            assert tile.queries == 4 * tile.groups
            assert min(tile.groups, tile.keys) >= 16  # what a product on tensor cores needs

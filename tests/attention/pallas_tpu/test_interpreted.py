"""The TPU kernels, interpreted on CPU: the masks bit for bit, the results against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from jaxreg import AttentionDropout, dot_product_attention, keep_mask
from jaxreg.attention import by_platform
from jaxreg.attention.pallas_tpu import kernel, layout
from tests.helpers import gpu_attention as calls
from tests.helpers.gpu_attention import Call, by_reference, close, with_gradients
from tests.helpers.tpu_attention import by_kernel, use_small_tiles

DROPOUTS = {
    "connections": AttentionDropout(0.4),
    "spans": AttentionDropout(0.4, "span", span_length=3),
    "shared by heads and examples": AttentionDropout(0.4, share=("head", "example")),
    "keys": AttentionDropout(0.4, "key"),
    "queries": AttentionDropout(0.4, "query"),
    "logits": AttentionDropout(0.7, stage="logits"),
    "bits version 2": AttentionDropout(0.4, bits=2),
}
B, T, S, H = 2, 75, 290, 2


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    use_small_tiles(monkeypatch)


def kept(dropout):
    numbers = {"examples": B, "heads": H, "queries": T, "keys": S}
    positions = {name: jnp.arange(n) for name, n in numbers.items()}
    mask = np.asarray(keep_mask(dropout, calls.KEY, **positions))
    if dropout.stage == "logits":
        return np.where(mask.any(-1, keepdims=True), mask, True)
    return mask


def weights(dropout):
    """f(values): the weights, where the values are the identity."""
    query, key = jnp.zeros((B, T, H, 2)), jnp.zeros((B, S, H, 2))
    return lambda value: by_kernel(query, key, value, dropout=dropout)


@pytest.mark.short_cases("connections")
@pytest.mark.parametrize("name", DROPOUTS)
def test_the_forward_pass_draws_the_mask_of_keep_mask(name):
    identity = jnp.broadcast_to(jnp.eye(S)[:, None], (B, S, H, S))
    out = jax.jit(weights(DROPOUTS[name]), compiler_options=calls.FAST)(identity)
    np.testing.assert_array_equal(np.asarray(out).swapaxes(1, 2) > 0, kept(DROPOUTS[name]))


@pytest.mark.system
@pytest.mark.parametrize("name", DROPOUTS)
def test_the_backward_pass_draws_it_again(name):
    def gradient(value):
        # That of the values is the transposed weights times what comes in.
        cotangent = jnp.broadcast_to(jnp.eye(T)[:, None], (B, T, H, T))
        _, back = jax.vjp(weights(DROPOUTS[name]), value)
        return back(cotangent)[0]

    found = jax.jit(gradient, compiler_options=calls.FAST)(jnp.zeros((B, S, H, T)))
    found = np.asarray(found).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found > 0, kept(DROPOUTS[name]))


CALL = Call(2, 75, 290, 4, 2, 8, 6)


@pytest.mark.short_cases("causal, dropout", "rows that read nothing")
@pytest.mark.parametrize("name", calls.SETTINGS)
def test_results_and_gradients_are_the_reference_s(name):
    settings = calls.settings_of(CALL)[name]
    found, expected = (
        with_gradients(attention, CALL, **settings) for attention in (by_kernel, by_reference)
    )
    # A bias that is the same for all keys of a row has no gradient but that of rounding.
    close(found, expected, 3e-3 if name == "bias of each query" else 1e-5)


SHAPES = [
    Call(1, 1, 5, 2, 1),
    Call(1, 7, 3, 4, 4),
    Call(2, 64, 256, 2, 2, 16, 16),
    Call(1, 330, 330, 1, 1, 5, 3),
    Call(1, 4, 600, 3, 1),
]


@pytest.mark.system
@pytest.mark.parametrize("call", SHAPES, ids=lambda x: "-".join(map(str, x[:7])))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shapes_and_dtypes(call, dtype):
    call = call._replace(dtype=dtype)
    settings = {"dropout": AttentionDropout(0.3), "is_causal": 1 < call.t <= call.s}
    found = with_gradients(by_kernel, call, **settings)
    expected = with_gradients(by_reference, call, **settings)
    close(found, expected, {"float32": 1e-5, "bfloat16": 0.03}[dtype])


@pytest.mark.system
def test_many_queries_go_through_the_backward_kernel_in_several_calls(monkeypatch):
    from jaxreg.attention.pallas_tpu import backward

    call, settings = Call(1, 200, 200, 2, 1), {"dropout": AttentionDropout(0.3), "is_causal": True}
    settings["logit_softcap"] = jnp.float32(0.7)
    whole = with_gradients(by_kernel, call, **settings)
    monkeypatch.setattr(backward, "VMEM_OF_GRADIENT", 1)
    close(with_gradients(by_kernel, call, **settings), whole, 1e-6)


@pytest.mark.system
@pytest.mark.parametrize("name", ["rows that read nothing", "packed documents", "DropKey"])
def test_a_loop_over_examples_gives_the_same(name, monkeypatch):
    settings = calls.settings_of(CALL)[name]
    together = with_gradients(by_kernel, CALL, **settings)
    monkeypatch.setattr(kernel, "COPIED_AT_ONCE", 1)
    close(with_gradients(by_kernel, CALL, **settings), together, 1e-6)


@pytest.mark.system
def test_a_masked_value_that_is_no_number_reaches_what_it_does_in_the_reference():
    call = Call(1, 21, 21, 2, 2)
    query, key, value = call.inputs()
    mask = jnp.ones((1, 1, 1, 21), bool).at[..., 5].set(False)
    value = value.at[0, 5].set(jnp.nan)

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
    arguments = calls.normal(1, 2, 9, 2, 4), rates, calls.normal(9, 2, 2, 9, 2, 4)
    return jax.jit(both, compiler_options=calls.FAST)(*arguments)


@pytest.mark.system
def test_scan_remat_vmap_and_traced_rates():
    close(transformed(by_kernel), transformed(by_reference), 1e-4)


@pytest.mark.system
@pytest.mark.parametrize("name", ["causal, dropout", "DropKey", "packed documents, causal"])
def test_no_race_no_read_out_of_bounds_and_none_of_memory_that_was_not_written(name):
    """The interpreter that models the TPU's memory: what was not written there is NaN."""
    checks = pltpu.InterpretParams(
        detect_races=True, out_of_bounds_reads="raise", uninitialized_memory="nan"
    )
    call = Call(1, 75, 290, 2, 1, 8, 6)
    settings = calls.settings_of(call)[name]
    found = with_gradients(by_kernel, call, interpret=checks, **settings)
    close(found, with_gradients(by_reference, call, **settings), 1e-5)
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call

    assert not interpret_pallas_call.races.races_found


@pytest.mark.system
@pytest.mark.parametrize("layout", ["shard_map", "explicit"])
def test_over_devices_the_numbers_are_those_of_one(layout):
    call, dropout = Call(2, 75, 150, 2, 2), AttentionDropout(0.3)
    kind = jax.sharding.AxisType.Explicit if layout == "explicit" else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,), devices=jax.devices()[:2])
    spec = jax.sharding.PartitionSpec("batch")

    def loss(ids, *arrays):
        out = dot_product_attention(
            *arrays,
            dropout=dropout,
            dropout_key=calls.KEY,
            example_ids=ids,
            implementation="pallas",
        )
        return out * call.cotangent()[:1]

    def gradients(run):
        def total(ids, *arrays):
            return jnp.sum(run(ids, *arrays) ** 2)

        return jax.jit(jax.value_and_grad(total, (1, 2, 3)), compiler_options=calls.FAST)

    ids, arrays = jnp.arange(2), call.inputs()
    with by_platform.interpreted("tpu"):
        alone = gradients(loss)(ids, *arrays)
        placed = [jax.device_put(x, jax.NamedSharding(mesh, spec)) for x in (ids, *arrays)]
        with jax.set_mesh(mesh):
            run = loss
            if layout == "shard_map":
                run = jax.shard_map(loss, mesh=mesh, in_specs=(spec,) * 4, out_specs=spec)
            divided = gradients(run)(*placed)
    for found, expected in zip(*map(jax.tree.leaves, (divided, alone)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_by_name_it_is_what_dot_product_attention_computes():
    call, dropout = Call(1, 70, 130, 2, 1), AttentionDropout(0.3)
    settings = {"dropout": dropout, "dropout_key": calls.KEY, "scale": 0.3}
    with by_platform.interpreted("tpu"):
        found = dot_product_attention(*call.inputs(), implementation="pallas", **settings)
    expected = dot_product_attention(*call.inputs(), implementation="reference", **settings)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "arrays, told",
    [
        ([jnp.zeros((1, 4, 2, 300))] * 3, "width 300 of a head; the TPU kernels go to 256"),
        ([jnp.zeros((1, 4, 2, 8), jnp.float16)] * 3, "dtype float16; the TPU kernels compute"),
    ],
)
def test_what_the_kernels_cannot_do_is_refused_by_name_in_one_line(arrays, told):
    with pytest.raises(ValueError, match=told) as raised:
        dot_product_attention(*arrays, implementation="pallas")
    assert str(raised.value).startswith("implementation: 'pallas' with ")
    assert str(raised.value).endswith("; allowed: None, 'blockwise', 'reference'")
    assert "\n" not in str(raised.value)


def test_rows_are_ordered_by_lane_and_come_back():
    x = jnp.arange(20)
    rows = layout.to_rows(x[None], 1, 8)
    assert rows[0].tolist()[:8] == [0, 4, 1, 5, 2, 6, 3, 7] and rows.shape == (1, 24)
    np.testing.assert_array_equal(layout.from_rows(rows, 1, 8, 20)[0], x)

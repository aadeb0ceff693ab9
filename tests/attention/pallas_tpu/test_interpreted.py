"""What only the TPU kernels have, interpreted; the rest is in test_interpreted_kernels.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from jaxreg import AttentionDropout, dot_product_attention
from jaxreg.attention import by_platform
from jaxreg.attention.pallas_tpu import kernel, layout
from tests.helpers import attention_calls as calls
from tests.helpers.attention_calls import Call, by_reference, close, with_gradients
from tests.helpers.kernels import by_tpu, use_small_tpu_tiles

CALL = Call(2, 75, 290, 4, 2, 8, 6)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    use_small_tpu_tiles(monkeypatch)


@pytest.mark.system
def test_many_queries_go_through_the_backward_kernel_in_several_calls(monkeypatch):
    from jaxreg.attention.pallas_tpu import backward

    call, settings = Call(1, 200, 200, 2, 1), {"dropout": AttentionDropout(0.3), "is_causal": True}
    settings["logit_softcap"] = jnp.float32(0.7)
    whole = with_gradients(by_tpu, call, **settings)
    monkeypatch.setattr(backward, "VMEM_OF_GRADIENT", 1)
    close(with_gradients(by_tpu, call, **settings), whole, 1e-6)


@pytest.mark.system
@pytest.mark.parametrize("name", ["rows that read nothing", "packed documents", "DropKey"])
def test_a_loop_over_examples_gives_the_same(name, monkeypatch):
    settings = calls.settings_of(CALL)[name]
    together = with_gradients(by_tpu, CALL, **settings)
    monkeypatch.setattr(kernel, "COPIED_AT_ONCE", 1)
    close(with_gradients(by_tpu, CALL, **settings), together, 1e-6)


@pytest.mark.system
@pytest.mark.parametrize("name", ["causal, dropout", "DropKey", "packed documents, causal"])
def test_no_race_no_read_out_of_bounds_and_none_of_memory_that_was_not_written(name):
    """The interpreter that models the TPU's memory: what was not written there is NaN."""
    checks = pltpu.InterpretParams(
        detect_races=True, out_of_bounds_reads="raise", uninitialized_memory="nan"
    )
    call = Call(1, 75, 290, 2, 1, 8, 6)
    settings = calls.settings_of(call)[name]
    found = with_gradients(by_tpu, call, interpret=checks, **settings)
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

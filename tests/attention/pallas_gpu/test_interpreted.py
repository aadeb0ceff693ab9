"""What only the GPU kernels have, interpreted; the rest is in test_interpreted_kernels.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxreg import AttentionDropout
from jaxreg.attention.pallas_gpu import kernel
from jaxreg.attention.pallas_gpu.plan import chosen_tiles
from tests.helpers.attention_calls import FAST, Call, close
from tests.helpers.kernels import by_gpu


@pytest.mark.system
@pytest.mark.parametrize("rows", [PartitionSpec("d"), PartitionSpec(None, None, "d")])
def test_gradients_on_two_devices_are_those_on_one(rows):
    # Without check_vma: interpreted kernels do not know what varies (compiled ones do, see below).
    call = Call(2, 9, 9, 4, 4, 4, 4)
    arrays, cotangent = call.inputs(), call.cotangent()

    def gradients(cotangent, *arrays):
        dropout = AttentionDropout(0.3, share=("example", "head"))

        def loss(*arrays):
            return jnp.sum(by_gpu(*arrays, dropout=dropout, is_causal=True) * cotangent)

        return jax.grad(loss, (0, 1, 2))(*arrays)

    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    specs = {"in_specs": (rows,) * 4, "out_specs": (rows,) * 3, "check_vma": False}
    divided = jax.shard_map(gradients, mesh=mesh, **specs)
    found, expected = (
        jax.jit(f, compiler_options=FAST)(cotangent, *arrays) for f in (divided, gradients)
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

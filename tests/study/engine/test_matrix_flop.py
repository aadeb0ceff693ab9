"""The count of FLOP against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxreg.study.engine.matrix_flop import matrix_flop

A, B = jax.ShapeDtypeStruct((3, 5), jnp.float32), jax.ShapeDtypeStruct((5, 7), jnp.float32)
ONE = 2 * 3 * 5 * 7


def product(a, b):
    return a @ b


def loss(a, b):
    return jnp.sum(jnp.tanh(a @ b))


def scanned(a, b):
    return jax.lax.scan(lambda c, _: (c + a @ b, None), jnp.zeros((3, 7)), length=4)[0]


def looped(a, b):
    return jax.lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c + a @ b, jnp.zeros((3, 7)))


def chosen(a, b):
    return jax.lax.cond(a[0, 0] > 0, lambda: a @ b + a @ b, lambda: a @ b)


@pytest.mark.parametrize(
    "function, expected",
    [
        (product, ONE),
        (jax.jit(product), ONE),
        (lambda a, b: jnp.sin(a) * 2, 0),
        (jax.grad(loss), 2 * ONE),  # forward, and the gradient of one argument
        (jax.grad(loss, argnums=(0, 1)), 3 * ONE),
        (jax.checkpoint(product), ONE),
        (scanned, 4 * ONE),
        (looped, ONE),
        (chosen, 2 * ONE),
    ],
)
def test_products_are_counted(function, expected):
    assert matrix_flop(function, A, B) == expected


def test_a_batch_counts_as_often_as_it_is_large():
    many = jax.ShapeDtypeStruct((6, 3, 5), jnp.float32)
    assert matrix_flop(jax.vmap(product, (0, None)), many, B) == 6 * ONE


def test_a_convolution_counts_its_window():
    rows = jax.ShapeDtypeStruct((2, 4, 10), jnp.float32)  # batch, channels, width
    kernel = jax.ShapeDtypeStruct((8, 4, 3), jnp.float32)  # out, in, width

    def convolved(x, k):
        return jax.lax.conv_general_dilated(x, k, (1,), "SAME")

    assert matrix_flop(convolved, rows, kernel) == 2 * (2 * 8 * 10) * (4 * 3)


def test_inside_a_shard_map_it_is_one_device_s():
    mesh, rows = Mesh(jax.devices()[:2], ("x",)), jax.ShapeDtypeStruct((6, 5), jnp.float32)
    spread = jax.shard_map(
        product,
        mesh=mesh,
        in_specs=(PartitionSpec("x"), PartitionSpec()),
        out_specs=PartitionSpec("x"),
    )
    assert matrix_flop(spread, rows, B) == ONE

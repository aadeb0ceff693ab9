"""Law 6: masks, losses and the gradients of one step are the same on 1, 2, 4 and 8 devices, under
jit and under pmap.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxreg import rng
from jaxreg.metrics import Tally
from jaxreg.study.design.model_section import transformer
from jaxreg.train.step import Moment, Problem, loss_and_gradient
from tests.helpers import attention_by_hand as by_hand

B, T, H, RATE = 8, 5, 2, 0.3
MOMENT = Moment(4, 17)
STEP_KEY = rng.step_key(rng.seed_key(4, "dropout"), 17)
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
OPTIONS = {  # of the compiler; in bfloat16 XLA shall leave no rounding out
    "float32": FAST,
    "bfloat16": FAST | {"xla_allow_excess_precision": False},
}
IDS = np.arange(B, dtype=np.int32)
draw = np.random.default_rng(0)
BATCH = {
    "tokens": draw.integers(1, 9, (B, T)).astype(np.int32),
    "label": draw.integers(0, 3, B).astype(np.int32),
}
FIELDS = {
    "vocab_size": 9,
    "num_outputs": 3,
    "num_layers": 1,
    "width": 8,
    "num_heads": H,
    "mlp_width": 12,
    "max_length": T,
    "norm": "none",
    "final_norm": False,
    "attention_dropout_rate": RATE,
    "mlp_dropout_rate": RATE,
}
MODELS = {dtype: transformer(**FIELDS, dtype=dtype) for dtype in ("float32", "bfloat16")}


def forward(dtype, params, batch, key, ids, **options):
    return MODELS[dtype].apply(
        {"params": params},
        batch["tokens"],
        train=True,
        dropout_key=key,
        example_ids=ids,
        read_positions=jnp.zeros_like(ids),
        **options,
    )


def objective(dtype, params, batch, moment, ids) -> Tally:
    values = optax.softmax_cross_entropy_with_integer_labels(
        forward(dtype, params, batch, moment.key("dropout"), ids), batch["label"]
    )
    return Tally(jnp.sum(values), jnp.float32(values.size))


def program(dtype, params, batch, ids, axis_name=None):
    """Loss, gradient, and the attention weights that training applied, [B, H, T, T]."""
    problem = Problem(None, partial(objective, dtype), None, None)
    tally, gradient = loss_and_gradient(problem, params, batch, MOMENT, ids, axis_name)
    _, sown = forward(dtype, params, batch, STEP_KEY, ids, mutable="intermediates")
    return tally, gradient, sown["intermediates"]["block_0"]["attention"]["attention_weights"][0]


@cache
def parameters():
    shapes = jax.eval_shape(MODELS["float32"].init, jax.random.key(0), BATCH["tokens"])["params"]
    return jax.tree.map(lambda x: (0.5 * draw.normal(size=x.shape)).astype(np.float32), shapes)


def under_jit(n, dtype="float32"):
    mesh = Mesh(np.array(jax.devices()[:n]), ("batch",))

    def put(tree, *axes):
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.jit(partial(program, dtype), compiler_options=OPTIONS[dtype])(
        put(parameters()), put(BATCH, "batch"), put(IDS, "batch")
    )


def under_pmap(n, dtype="float32"):
    def share(x):
        return x.reshape(n, B // n, *x.shape[1:])

    run = jax.pmap(
        lambda params, batch, ids: program(dtype, params, batch, ids, "batch"),
        "batch",
        in_axes=(None, 0, 0),
        devices=jax.devices()[:n],
    )
    args = parameters(), jax.tree.map(share, BATCH), share(IDS)
    tally, gradient, weights = run.lower(*args).compile(compiler_options=OPTIONS[dtype])(*args)
    for leaf in jax.tree.leaves((tally, gradient)):  # every device holds the sum over all of them
        np.testing.assert_array_equal(
            np.asarray(leaf), np.broadcast_to(np.asarray(leaf)[:1], leaf.shape)
        )
    first = jax.tree.map(lambda x: np.asarray(x)[0], (tally, gradient))
    return *first, np.asarray(weights).reshape(B, H, T, T)


@cache
def one_device(dtype="float32"):
    return under_jit(1, dtype)


def norm(tree):
    return float(
        np.sqrt(sum(np.sum(np.square(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree)))
    )


def distance(tree, expected):
    """Relative, in the global norm."""
    gap = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - np.asarray(b), tree, expected)
    return norm(gap) / norm(expected)


@pytest.mark.short_cases("under_pmap-4")
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("under", [under_jit, under_pmap])
def test_one_step_is_the_same_on_any_number_of_devices(under, devices):
    tally, gradient, weights = jax.tree.map(np.asarray, under(devices))
    expected_tally, expected_gradient, expected_weights = jax.tree.map(np.asarray, one_device())
    key = jax.random.fold_in(STEP_KEY, rng.site(0, "attention"))
    keep = by_hand.keep_mask(
        key, RATE, num_examples=B, heads=range(H), queries=range(T), keys=range(T), example_ids=IDS
    )
    np.testing.assert_array_equal(np.asarray(weights) > 0, keep)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)

    assert tally.count == expected_tally.count == B
    np.testing.assert_allclose(tally.total, expected_tally.total, rtol=1e-6)
    np.testing.assert_allclose(norm(gradient), norm(expected_gradient), rtol=1e-6)
    assert distance(gradient, expected_gradient) < 1e-6


@pytest.mark.system
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("under", [under_jit, under_pmap])
def test_the_same_in_bfloat16_but_for_each_device_s_rounding_of_its_part(under, devices):
    """Masks exactly; a device's part of a gradient comes out of its products in bfloat16."""
    tally, gradient, weights = jax.tree.map(np.asarray, under(devices, "bfloat16"))
    expected_tally, expected_gradient, expected_weights = jax.tree.map(
        np.asarray, one_device("bfloat16")
    )
    np.testing.assert_array_equal(weights > 0, np.asarray(one_device()[2]) > 0)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)
    np.testing.assert_allclose(tally.total, expected_tally.total, rtol=1e-6)
    assert distance(gradient, expected_gradient) < 2**-8
    assert 1e-4 < distance(gradient, one_device()[1]) < 0.05, "a bfloat16 program, and a sound one"

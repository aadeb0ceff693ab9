"""One mask, whatever JAX does with the call: jit, vmap, pmap, shard_map, sharding, remat, loops,
gradients, traced rates.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxreg import AttentionDropout, dot_product_attention
from jaxreg.attention import by_platform
from jaxreg.attention.blockwise import kernel
from tests.helpers import attention_by_hand as by_hand
from tests.helpers.kernels import use_small_tpu_tiles

jit = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # compiles in half the time
KEY = jax.random.key(12)
B, H, T, S = 8, 2, 5, 6
RATE = 0.4
IDS = np.array([3, 1, 4, 15, 9, 2, 6, 5])
QUERY = np.zeros((B, T, H, S), np.float32)
VALUE = np.broadcast_to(np.eye(S, dtype=np.float32)[:, None], (B, S, H, S))
IDENTITY = np.broadcast_to(np.eye(T, S, dtype=np.float32)[:, None], (B, T, H, S))


KERNELS = {"pallas on TPU": "tpu", "pallas on GPU": "gpu"}


@pytest.fixture(
    params=["reference", "blockwise", *[pytest.param(x, marks=pytest.mark.system) for x in KERNELS]]
)
def weights(request, monkeypatch):
    """f(query, value, ids, key, rate) -> [*B, H, T, S]: the values are the identity, so the output
    is the weights.
    """
    # Blocks of 4: the tiles of these short sequences are several, and the last ones are cut.
    monkeypatch.setattr(kernel, "ROWS", 4)
    use_small_tpu_tiles(monkeypatch)
    implementation = "pallas" if request.param in KERNELS else request.param

    def weights(query, value, ids, key=KEY, rate=RATE):
        query, value, ids = (None if x is None else jnp.asarray(x) for x in (query, value, ids))
        out = dot_product_attention(
            query,
            jnp.zeros_like(value),
            value,
            dropout=AttentionDropout(rate),
            dropout_key=key,
            example_ids=ids,
            implementation=implementation,
        )
        return jnp.swapaxes(out, -2, -3)

    if request.param in KERNELS:
        with by_platform.interpreted(KERNELS[request.param]):
            yield weights
    else:
        yield weights


def mesh(n, name="batch"):
    return Mesh(np.array(jax.devices()[:n]), (name,))


def placed(n, spec):
    def put(x, spec):
        return jax.device_put(x, NamedSharding(mesh(n), spec))

    return put(QUERY, spec), put(VALUE, spec), put(IDS, PartitionSpec(*spec[:1]))


def split(n):
    return tuple(x.reshape(n, B // n, *x.shape[1:]) for x in (QUERY, VALUE, IDS))


def pmapped(weights, n):
    args = tuple(map(jnp.asarray, split(n)))
    out = (
        jax.pmap(weights, devices=jax.devices()[:n])
        .lower(*args)
        .compile(compiler_options={"xla_backend_optimization_level": 0})(*args)
    )
    return out.reshape(B, *out.shape[2:])


def shard_mapped(weights, n):
    spec = PartitionSpec("batch")
    return jit(jax.shard_map(weights, mesh=mesh(n), in_specs=spec, out_specs=spec))(
        QUERY, VALUE, IDS
    )


def looped(weights):
    """The key from the step, inside a while loop; a scan over single examples inside of it."""

    def step(index, _):
        key = jax.random.fold_in(KEY, index)
        return jax.lax.map(
            lambda x: weights(x[0][None], x[1][None], x[2][None], key)[0], (QUERY, VALUE, IDS)
        )

    return jit(lambda n: jax.lax.fori_loop(0, n, step, jnp.zeros((B, H, T, S))))(3)


def backward(weights, wrap):
    """The mask of the backward pass: the gradient for the values is the transposed weights, times
    what comes in.
    """

    def loss(value):
        # Something before that must not be computed the same way twice, and a cotangent that is the
        # identity.
        return jnp.sum(jnp.swapaxes(wrap(weights)(QUERY, jnp.sin(value), IDS), -2, -3) * IDENTITY)

    gradient = jit(jax.grad(loss))(VALUE)
    return (np.asarray(gradient) / np.cos(VALUE)).transpose(0, 2, 3, 1)[:, :, :T]


def halves(weights):
    half = jit(weights)
    return np.concatenate([half(*x) for x in zip(*split(2), strict=True)])


PROGRAMS = {
    "eager": lambda weights: weights(QUERY, VALUE, IDS),
    "jit": lambda weights: jit(weights)(QUERY, VALUE, IDS),
    "traced rate": lambda weights: jit(weights)(QUERY, VALUE, IDS, KEY, RATE),
    "halves of the batch": halves,
    "vmap over examples, with ids": lambda weights: jit(jax.vmap(weights))(QUERY, VALUE, IDS),
    "vmap over keys": lambda weights: jit(jax.vmap(partial(weights, QUERY, VALUE, IDS)))(
        jnp.stack([jax.random.key(1), KEY])
    )[1],
    "pmap, 2 devices": lambda weights: pmapped(weights, 2),
    "pmap, 8 devices": lambda weights: pmapped(weights, 8),
    "shard_map, 4 devices": lambda weights: shard_mapped(weights, 4),
    "jit, batch on 8 devices": lambda weights: jit(weights)(*placed(8, PartitionSpec("batch"))),
    "jit, heads on 2 devices": lambda weights: jit(weights)(
        *placed(2, PartitionSpec(None, None, "batch"))
    ),
    "backward": lambda weights: backward(weights, lambda f: f),
    "backward, remat": lambda weights: backward(weights, jax.checkpoint),
}


@pytest.fixture(scope="module")
def expected():
    return by_hand.keep_mask(
        KEY, RATE, num_examples=B, heads=range(H), queries=range(T), keys=range(S), example_ids=IDS
    )


@pytest.mark.short_cases(
    "blockwise-traced rate",
    "blockwise-vmap over examples, with ids",
    "blockwise-pmap, 8 devices",
    "blockwise-jit, batch on 8 devices",
    "blockwise-backward, remat",
    "reference-backward",
)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_mask_does_not_depend_on_how_it_runs(name, expected, weights, request):
    if name.startswith("shard_map") and "pallas on GPU" in request.node.name:
        pytest.skip("Pallas's interpreter loses the varying axes of shard_map in gathers")
    found = np.asarray(PROGRAMS[name](weights))
    np.testing.assert_array_equal(found > 1e-6, expected)
    np.testing.assert_allclose(found, expected * by_hand.keep_scale(RATE) / S, rtol=1e-5, atol=1e-6)


def test_in_loops_the_key_is_the_step_s(weights):
    expected = by_hand.keep_mask(
        jax.random.fold_in(KEY, 2),
        RATE,
        num_examples=B,
        heads=range(H),
        queries=range(T),
        keys=range(S),
        example_ids=IDS,
    )
    np.testing.assert_array_equal(np.asarray(looped(weights)) > 0, expected)


@pytest.mark.short_cases("blockwise")
def test_without_ids_a_sharded_batch_counts_over_all_devices(weights):
    query, value, _ = placed(8, PartitionSpec("batch"))
    found = jit(lambda q, v: weights(q, v, None))(query, value)
    expected = by_hand.keep_mask(
        KEY, RATE, num_examples=B, heads=range(H), queries=range(T), keys=range(S)
    )
    np.testing.assert_array_equal(np.asarray(found) > 0, expected)


@pytest.mark.short_cases("blockwise")
def test_without_ids_every_device_of_a_pmap_draws_the_same_mask(weights):
    # The documented trap: pmap sees local batches only. Pass global ids.
    query, value, _ = split(2)
    first, second = jax.pmap(lambda q, v: weights(q, v, None), devices=jax.devices()[:2])(
        query, value
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.short_cases("blockwise")
def test_vmap_with_a_key_per_example_is_example_0_of_each_key(weights):
    # How a foreign module gets position-keyed masks: vmap(apply) with rngs={"dropout":
    # fold_in(step_key, id)}.
    keys = jnp.stack([jax.random.fold_in(KEY, int(i)) for i in IDS])
    found = jit(jax.vmap(lambda q, v, key: weights(q, v, None, key)))(QUERY, VALUE, keys)
    expected = by_hand.keep_mask(
        keys,
        RATE,
        num_examples=B,
        heads=range(H),
        queries=range(T),
        keys=range(S),
        example_ids=np.zeros(B, int),
    )
    np.testing.assert_array_equal(np.asarray(found) > 0, expected)


@pytest.mark.short_cases("blockwise")
def test_vmap_over_rates(weights):
    rates = [0.0, 0.4, 0.75]
    found = jit(jax.vmap(lambda rate: weights(QUERY, VALUE, IDS, KEY, rate)))(jnp.array(rates))
    for rate, mask in zip(rates, np.asarray(found), strict=True):
        expected = by_hand.keep_mask(
            KEY,
            rate,
            num_examples=B,
            heads=range(H),
            queries=range(T),
            keys=range(S),
            example_ids=IDS,
        )
        np.testing.assert_allclose(mask, expected * by_hand.keep_scale(rate) / S, rtol=1e-5)


def test_the_gradient_for_a_rate_is_0_and_not_nan(weights):
    # t is rounded up to a multiple of 1 / 65536: the loss is a step function of the rate.
    gradient = jit(jax.grad(lambda rate: jnp.sum(weights(QUERY, VALUE, IDS, KEY, rate) ** 2)))(RATE)
    assert float(gradient) == 0.0


def test_jax_s_own_settings_for_keys_do_not_matter(expected, weights):
    with jax.default_prng_impl("rbg"), jax.threefry_partitionable(False):
        np.testing.assert_array_equal(np.asarray(jit(weights)(QUERY, VALUE, IDS)) > 0, expected)

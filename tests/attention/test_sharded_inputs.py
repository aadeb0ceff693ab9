"""Inputs on several devices: the numbers of one device, divided as the inputs are, each device with
its own part only; compiled once by eager calls.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxreg
from jaxreg.attention import by_platform, sharding

KEY = jax.random.key(3)
B, T, H, K = 8, 272, 4, 4
DROPOUT = {"is_causal": True, "dropout": jaxreg.AttentionDropout(0.3), "dropout_key": KEY}
LAYOUTS = {
    "batch": ((4,), ("data",), PartitionSpec("data")),
    "batch and heads": ((4, 2), ("data", "model"), PartitionSpec("data", None, "model")),
    "batch over two axes": ((2, 4), ("data", "fsdp"), PartitionSpec(("data", "fsdp"))),
    "heads": ((2,), ("model",), PartitionSpec(None, None, "model")),
}
COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def both(query, key, value, cotangent, **options):
    """The output and the gradients."""
    out, back = jax.vjp(lambda *x: jaxreg.dot_product_attention(*x, **options), query, key, value)
    return out, *back(cotangent)


def mesh_of(layout, kind):
    sizes, names, spec = LAYOUTS[layout]
    devices = jax.devices()[: np.prod(sizes)]
    return NamedSharding(jax.make_mesh(sizes, names, (kind,) * len(sizes), devices=devices), spec)


def full(spec, ndim=4):
    """A spec with an entry for every axis."""
    return (*spec, *(None,) * (ndim - len(spec)))


@pytest.fixture(scope="module")
def arrays():
    return [normal(seed, B, T, H, K) for seed in range(4)]


@pytest.fixture(scope="module")
def expected(arrays):
    return jax.jit(partial(both, **DROPOUT, implementation="reference"))(*arrays)


@pytest.mark.optimized
@pytest.mark.short_cases("batch-cpu-explicit")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_device_computes_its_own_part(layout, platform, kind, arrays, expected, monkeypatch):
    # "tpu" is the program that accelerators get, without kernels, here compiled for CPUs.
    if platform == "tpu":
        chosen = by_platform._branches
        monkeypatch.setattr(
            by_platform, "_branches", lambda *given: {"default": chosen(*given)["default"]}
        )
    sharding = mesh_of(layout, kind)
    inputs = [jax.device_put(x, sharding) for x in arrays]
    jax.clear_caches()
    program = jax.jit(partial(both, **DROPOUT)).lower(*inputs).compile()
    assert not re.findall(rf" ({COLLECTIVES})", program.as_text())
    found = program(*inputs)
    for got, right in zip(found, expected, strict=True):
        assert full(got.sharding.spec) == full(sharding.spec)
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=2e-5)


@pytest.mark.optimized
@pytest.mark.system
def test_the_memory_of_a_device_is_divided(arrays):
    sizes = []
    for number in (2, 8):
        mesh = jax.make_mesh((number,), ("data",), (AxisType.Auto,), devices=jax.devices()[:number])
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        x = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for x in arrays]
        program = jax.jit(partial(both, **DROPOUT)).lower(*x).compile()
        sizes.append(program.memory_analysis().temp_size_in_bytes)
    assert sizes[1] < sizes[0] / 3


def test_without_jit_and_in_shard_map(arrays, expected):
    sharding = mesh_of("batch", AxisType.Explicit)
    inputs = [jax.device_put(x, sharding) for x in arrays]
    eager = jaxreg.dot_product_attention(*inputs[:3], **DROPOUT)
    assert full(eager.sharding.spec) == full(sharding.spec)
    ids = jax.device_put(jnp.arange(B), sharding)
    manual = jax.shard_map(
        lambda *x: jaxreg.dot_product_attention(*x[:3], **DROPOUT, example_ids=x[3]),
        mesh=sharding.mesh,
        in_specs=sharding.spec,
        out_specs=sharding.spec,
    )(*inputs[:3], ids)
    for out in (eager, manual):
        np.testing.assert_allclose(out, expected[0], rtol=1e-4, atol=2e-5)


@pytest.mark.system
def test_explicit_axes_with_masks_bias_grouped_heads_and_two_batch_axes():
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "model"))
    spec = PartitionSpec("data", "fsdp", None, "model")
    q, k = normal(1, 2, 2, T, 4, K), normal(2, 2, 2, T, 2, K)
    mask = jnp.asarray(np.random.default_rng(5).random((2, 2, 1, 1, T)) < 0.7)
    bias = normal(6, 4, T, T)

    def loss(q, k, bias, mask):
        out = jaxreg.dot_product_attention(q, k, k, bias, mask, **DROPOUT)
        return jnp.sum(out**2), out

    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    right = run(q, k, bias, mask)
    placed = [jax.device_put(x, NamedSharding(mesh, spec)) for x in (q, k)]
    masks = jax.device_put(mask, NamedSharding(mesh, PartitionSpec("data")))
    whole = jax.device_put(bias, NamedSharding(mesh, PartitionSpec()))
    found = run(*placed, whole, masks)
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.short_cases("nnx")
@pytest.mark.parametrize("flavour", ["linen", "nnx"])
def test_modules_on_an_explicit_mesh(flavour):
    from flax import linen, nnx

    x = normal(1, B, T, 8)
    sharded = jax.device_put(x, mesh_of("batch", AxisType.Explicit))
    options = {"num_heads": 2, "attention_fn": jaxreg.attention_fn(), "dropout_rate": 0.2}
    if flavour == "linen":
        module = linen.MultiHeadDotProductAttention(**options, deterministic=False)
        params = module.init({"params": KEY, "dropout": KEY}, x[:1])

        @jax.jit
        def run(x):
            return module.apply(params, x, rngs={"dropout": KEY})
    else:
        graph, state = nnx.split(
            nnx.MultiHeadAttention(**options, in_features=8, decode=False, rngs=nnx.Rngs(0))
        )

        program = jax.jit(lambda state, x: nnx.merge(graph, state)(x, deterministic=False))
        run = partial(program, state)

    out = run(sharded)
    assert full(out.sharding.spec, 3) == full(sharded.sharding.spec, 3)
    np.testing.assert_allclose(out, run(x), rtol=1e-4, atol=1e-5)


@pytest.mark.short_cases()
@pytest.mark.parametrize("length", [20, 300])
def test_eager_calls_compile_once(length):
    compiled = []

    def listener(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    x = normal(1, 1, length, 1, 4)

    def loss(x):
        return jnp.sum(jaxreg.dot_product_attention(x, x, x, **DROPOUT))

    calls = (loss, jax.grad(loss), lambda x: jax.vmap(loss)(x[None]))
    for call in calls:
        call(x), call(x)
    jax.monitoring.register_event_duration_secs_listener(listener)
    jnp.sin(jnp.ones(length + 7))  # the listener does hear a program
    heard = len(compiled)
    for _ in range(5):
        for call in calls:
            call(x)
    assert heard and len(compiled) == heard


def test_the_axes_over_which_xla_divides_are_known_while_a_program_is_traced():
    found = []

    def program(x, weights):
        found.append(sharding.auto_axes(x @ weights, x))
        return jax.lax.fori_loop(0, 2, lambda _, x: found.append(sharding.auto_axes(x)) or x, x)

    x, weights = jnp.ones((8, 4)), jnp.ones((4, 4))
    jax.jit(program)(x, weights)
    assert len(found) > 1 and set(found) == {()}
    for kind in AxisType.Auto, AxisType.Explicit:
        whole = NamedSharding(mesh_of("batch", kind).mesh, PartitionSpec())
        divided = jax.device_put(x, mesh_of("batch", kind))
        found.clear()
        jax.jit(program)(divided, jax.device_put(weights, whole))
        names = ("data",) if kind == AxisType.Auto else ()
        assert len(found) > 1 and set(found) == {names}
        with jax.set_mesh(whole.mesh):
            assert sharding.auto_axes(jnp.ones((8, 4))) == names
        found.clear()
        jax.shard_map(
            lambda x: found.append(sharding.auto_axes(x)) or x,
            mesh=whole.mesh,
            in_specs=PartitionSpec("data"),
            out_specs=PartitionSpec("data"),
        )(divided)
        assert set(found) == {()}


def test_lanes_are_those_of_the_devices_that_are_not_mapped_by_hand(monkeypatch):
    assert sharding.lanes(12, 6) == (4, 2)  # eight devices
    found = []
    jax.pmap(lambda x: found.append(sharding.lanes(12, 6)) or x)(jnp.zeros(8))
    assert found[0] == (1, 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert sharding.lanes(12, 6) == (1, 1)

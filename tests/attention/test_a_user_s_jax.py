"""What a user's program may do around attention: strict modes, export, empty batches, float64,
decoding, extreme biases, and transformations of their own.
"""

import importlib.util
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.ad_checkpoint import checkpoint_policies

import jaxreg
from jaxreg import AttentionDropout, dot_product_attention

KEY = jax.random.key(4)
DROPOUT = {"dropout": AttentionDropout(0.3), "dropout_key": KEY}
BOTH = pytest.mark.parametrize("implementation", ["reference", "blockwise"])


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def set_config():
    """Sets JAX's options, and sets them back."""
    before = {}

    def change(name, value):
        before.setdefault(name, getattr(jax.config, name))
        jax.config.update(name, value)

    yield change
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.short_cases("connection-weights-jax_numpy_rank_promotion-raise-reference")
@BOTH
@pytest.mark.parametrize(
    ("option", "value"),
    [("jax_numpy_rank_promotion", "raise"), ("jax_numpy_dtype_promotion", "strict")],
)
@pytest.mark.parametrize(
    "dropout",
    [
        AttentionDropout(0.3),
        AttentionDropout(0.3, stage="logits"),
        AttentionDropout(0.3, "key"),
        AttentionDropout(0.3, "query"),
        AttentionDropout(0.3, "span", span_length=3),
    ],
    ids=lambda dropout: f"{dropout.unit}-{dropout.stage}",
)
def test_strict_modes_run_and_change_nothing(dropout, option, value, implementation, set_config):
    x, bias = normal(1, 2, 9, 2, 4), normal(2, 1, 2, 9, 9)
    others = {
        "mask": jnp.ones((2, 1, 1, 9), bool),
        "droppable": jnp.ones((1, 1, 9, 9), bool).at[..., 0].set(False),
        "is_causal": True,
        "scale": jnp.float32(0.4),
        "logit_softcap": 3.0,
    }

    def gradients():
        def loss(x, bias):
            options = others | {"dropout": dropout, "dropout_key": KEY}
            out = dot_product_attention(x, x, x, bias, **options, implementation=implementation)
            return jnp.sum(out)

        return jax.jit(jax.grad(loss, (0, 1)))(x, bias)

    expected = gradients()
    set_config(option, value)
    for found, right in zip(gradients(), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    arange = jnp.arange(9)
    kept = jaxreg.keep_mask(
        dropout, KEY, examples=arange[:2], heads=arange[:2], queries=arange, keys=arange
    )
    assert kept.shape == (2, 2, 9, 9)


@pytest.mark.parametrize("implementation", [None, "reference", "blockwise"])
@pytest.mark.parametrize("lead", [(0,), (2, 0)])
@pytest.mark.parametrize("length", [5, 300])
def test_a_batch_of_0_gives_an_array_of_that_shape(length, lead, implementation):
    x = jnp.zeros((*lead, length, 2, 4))

    def loss(x):
        out = dot_product_attention(x, x, x, **DROPOUT, implementation=implementation)
        return jnp.sum(out), out

    gradient, out = jax.grad(loss, has_aux=True)(x)
    assert out.shape == gradient.shape == x.shape


def test_no_queries_give_no_outputs():
    x = jnp.ones((2, 5, 2, 4))
    assert dot_product_attention(x[:, :0], x, x, **DROPOUT).shape == (2, 0, 2, 4)


@pytest.mark.short_cases("blockwise")
@BOTH
def test_float64_is_computed_in_float64(implementation, set_config):
    set_config("jax_enable_x64", True)
    x = np.random.default_rng(0).normal(size=(1, 21, 2, 4))
    given = jnp.asarray(x)
    out = dot_product_attention(given, given, given, is_causal=True, implementation=implementation)
    logits = np.einsum("bthk,bshk->bhts", x, x) / 2
    logits = np.where(np.tri(21, dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    assert out.dtype == jnp.float64
    np.testing.assert_allclose(out, np.einsum("bhts,bshk->bthk", weights, x), rtol=1e-12)
    single = given.astype(jnp.float32)
    out = dot_product_attention(single, single, single, **DROPOUT, implementation=implementation)
    assert out.dtype == jnp.float32


@pytest.mark.short_cases("blockwise")
@BOTH
def test_mixed_dtypes_are_promoted(implementation):
    x = normal(1, 1, 20, 2, 4)
    narrow = x.astype(jnp.bfloat16)
    out = dot_product_attention(narrow, x, x, implementation=implementation)
    right = dot_product_attention(narrow.astype(jnp.float32), x, x, implementation=implementation)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, right)


@pytest.mark.short_cases()
@pytest.mark.parametrize("length", [32, 21, 600])
@pytest.mark.parametrize("bias", [-np.inf, np.finfo(np.float32).min])
def test_a_bias_may_leave_a_causal_row_nothing_to_read(bias, length):
    inputs = [normal(seed, 1, length, 2, 4) for seed in range(3)]
    inputs.append(jnp.zeros((1, 1, length, length)).at[0, 0, 5].set(bias))

    def run(implementation):
        def loss(*inputs):
            out = dot_product_attention(*inputs, is_causal=True, implementation=implementation)
            return jnp.sum(out**2), out

        return jax.tree.leaves(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(*inputs))

    for found, right in zip(run("blockwise"), run("reference"), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)


@pytest.mark.short_cases()
@pytest.mark.parametrize("length", [32, 21])
def test_a_masked_value_that_is_no_number_reaches_the_same_gradients(length):
    q, k, v = (normal(seed, 1, length, 2, 4) for seed in range(3))
    mask = jnp.ones((1, 1, 1, length), bool).at[..., 5].set(False)
    value = v.at[0, 5].set(jnp.nan)

    def gone(implementation):
        def loss(q, k, v):
            out = dot_product_attention(q, k, v, mask=mask, implementation=implementation)
            return jnp.sum(jnp.where(jnp.isnan(out), 0, out))

        return [np.isnan(x) for x in jax.grad(loss, (0, 1, 2))(q, k, value)]

    for found, right in zip(gone("blockwise"), gone("reference"), strict=True):
        np.testing.assert_array_equal(found, right)


@pytest.mark.short_cases()
@pytest.mark.parametrize("cap", [0.5, 30.0, np.inf])
@pytest.mark.parametrize("length", [21, 530])
def test_a_soft_cap_is_that_of_the_reference(length, cap):
    inputs = [normal(seed, 1, length, 2, 4) for seed in range(3)]
    bias, cap = normal(5, 1, length, length), jnp.float32(cap)

    def run(implementation):
        def loss(bias, cap, *inputs):
            out = dot_product_attention(
                *inputs,
                bias,
                is_causal=True,
                logit_softcap=cap,
                **DROPOUT,
                implementation=implementation,
            )
            return jnp.sum(out**2), out

        grad = jax.value_and_grad(loss, (0, 1, 2, 3, 4), has_aux=True)
        return jax.tree.leaves(jax.jit(grad)(bias, cap, *inputs))

    for found, right in zip(run("blockwise"), run("reference"), strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-3, atol=1e-4)


@pytest.mark.short_cases("connection")
@pytest.mark.parametrize("unit", ["connection", "query", "key"])
def test_a_decoding_step_draws_the_mask_of_its_position(unit):
    x = normal(1, 2, 11, 2, 4)
    options = {"is_causal": True, "dropout": AttentionDropout(0.4, unit), "dropout_key": KEY}
    whole = dot_product_attention(x, x, x, **options)

    @jax.jit
    def step(t):
        query = jax.lax.dynamic_slice_in_dim(x, t, 1, 1)
        return dot_product_attention(query, x, x, **options, query_offset=t)

    for t in range(11):
        np.testing.assert_allclose(step(t), whole[:, t : t + 1], rtol=1e-5, atol=1e-6)
    tail = dot_product_attention(x[:, 3:], x, x, **options, query_offset=3)
    np.testing.assert_allclose(tail, whole[:, 3:], rtol=1e-5, atol=1e-6)


def test_a_wrong_offset_is_named():
    x = normal(1, 1, 3, 1, 4)
    with pytest.raises(ValueError, match=r"query_offset: .*; allowed is one whole number"):
        dot_product_attention(x, x, x, query_offset=-1)
    with pytest.raises(ValueError, match="'blockwise' with a query_offset"):
        dot_product_attention(x, x, x, query_offset=1, implementation="blockwise")


EXPORTS = """
import jax, jax.numpy as jnp, numpy as np
from jax import export
from jaxreg import AttentionDropout, dot_product_attention

for implementation in (None, "reference", "blockwise"):
    for shape in ("b, 20, 2, 4", "b, 300, 2, 4", "2, t, 2, 4", "b, t, 2, 4"):
        attend = jax.jit(lambda x: dot_product_attention(
            x, x, x, is_causal=True, dropout=AttentionDropout(0.3), dropout_key=jax.random.key(4),
            implementation=implementation))
        given = jax.ShapeDtypeStruct(export.symbolic_shape(shape), jnp.float32)
        try:
            exported = export.export(attend)(given)
        except ValueError as error:
            print(implementation, shape, str(error)[:90])
            continue
        sizes = [{"b": 3, "t": 25}.get(n) or int(n) for n in shape.split(", ")]
        x = jnp.asarray(np.random.default_rng(0).normal(size=sizes), jnp.float32)
        np.testing.assert_allclose(exported.call(x), attend(x), rtol=1e-5, atol=1e-6)
        print(implementation, shape, "ok")
"""


@pytest.mark.system
def test_symbolic_shapes_are_exported():
    # In a process of its own: the type check of the tests takes no symbolic shapes.
    done = subprocess.run([sys.executable, "-c", EXPORTS], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 12, done.stderr
    refused = [line for line in lines if not line.endswith("ok")]
    assert [line.split(" implementation: ")[0] for line in refused] == [
        "blockwise 2, t, 2, 4",
        "blockwise b, t, 2, 4",
    ]
    assert all("'blockwise' with the symbolic lengths t and t" in line for line in refused)


@pytest.mark.skipif(not importlib.util.find_spec("flatbuffers"), reason="export writes with it")
def test_dropout_is_an_argument_of_an_exported_function():
    x = normal(1, 2, 9, 2, 4)
    dropout = AttentionDropout(jnp.float32(0.4), "span", share=("head",), span_length=3)
    function = jax.jit(lambda x, d: dot_product_attention(x, x, x, dropout=d, dropout_key=KEY))
    written = export.export(function)(x, dropout).serialize()
    np.testing.assert_array_equal(
        export.deserialize(written).call(x, dropout), function(x, dropout)
    )


def test_forward_mode_at_length_names_the_cure():
    x = normal(1, 1, 300, 1, 4)
    with pytest.raises(TypeError, match="implementation='reference'"):
        jax.jvp(lambda x: dot_product_attention(x, x, x), (x,), (x,))


@pytest.mark.system
@BOTH
def test_what_surrounds_attention(implementation, set_config):
    # nn.scan, remat policies, cond, ahead of time, numpy inputs: one number for all.
    from flax import linen

    x = normal(1, 2, 9, 2, 4)
    attend = partial(
        dot_product_attention, is_causal=True, **DROPOUT, implementation=implementation
    )

    def loss(x):
        return jnp.sum(attend(x, x, x) ** 2)

    expected = jax.jit(jax.grad(loss))(x)
    for policy in (
        checkpoint_policies.nothing_saveable,
        checkpoint_policies.everything_saveable,
        checkpoint_policies.dots_saveable,
    ):
        found = jax.jit(jax.grad(jax.checkpoint(loss, policy=policy)))(x)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    branch = jax.jit(lambda x, p: jax.lax.cond(p, loss, jnp.sum, x))
    np.testing.assert_allclose(branch(x, True), loss(x), rtol=1e-5)
    program = jax.jit(loss).lower(x).compile()
    np.testing.assert_allclose(program(x), loss(x), rtol=1e-5)
    # The type check of the tests takes no numpy arrays; the function for Flax passes them on.
    flax_s = jaxreg.attention_fn(implementation=implementation)
    out = flax_s(*[np.asarray(x)] * 3, deterministic=True, is_causal=True)
    right = dot_product_attention(x, x, x, is_causal=True, implementation=implementation)
    np.testing.assert_allclose(out, right, rtol=1e-5, atol=1e-6)
    for option in ("jax_debug_nans", "jax_check_tracer_leaks", "jax_debug_key_reuse"):
        set_config(option, True)
        found = jax.jit(lambda x: jax.grad(loss)(x))(x)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        set_config(option, False)

    class Layer(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            given = {"dropout": AttentionDropout(0.5), "dropout_key": self.make_rng("dropout")}
            out = dot_product_attention(x, x, x, **given, implementation=implementation)
            return x, out

    layers = linen.scan(Layer, split_rngs={"dropout": True}, length=3)()
    _, outs = layers.apply({}, x, None, rngs={"dropout": KEY})
    assert len({np.asarray(out).tobytes() for out in outs}) == 3


@pytest.mark.short_cases()
@BOTH
def test_rows_of_padding_have_finite_gradients(implementation):
    x = normal(1, 2, 21, 2, 4)
    mask = (jnp.arange(21) < jnp.array([[13], [0]]))[:, None, None, :]

    def loss(x):
        options = {"is_causal": True, "mask": mask, "implementation": implementation}
        return jnp.sum(dot_product_attention(x, x, x, **options, **DROPOUT) ** 2)

    assert np.isfinite(jax.grad(loss)(x)).all()

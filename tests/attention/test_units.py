"""Every unit, stage and share, in both implementations: masks, outputs and gradients against loops;
one compilation for all rates.
"""

import ast
import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import linen

from jaxreg import AttentionDropout, attention_fn, dot_product_attention, keep_mask
from jaxreg.attention import dropout, masks
from jaxreg.attention.blockwise import kernel
from jaxreg.attention.inputs import inputs_of
from tests.helpers import attention_by_hand as by_hand

jit = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # compiles in half the time
KEY = jax.random.key(31)
B, H, G, T = 2, 4, 2, 37  # three tiles of keys, ten of queries, and the last ones are cut
KEYS_PER_EXAMPLE = jax.random.split(KEY, B)
SPAN = 5
ALMOST_ALL = 1 - 2**-12


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def coin(seed, *shape, p):
    return np.random.default_rng(seed).random(shape) < p


def padded(mask):
    """`mask` [B, 1, T, T] without the last keys of example 1, and with a query that may read
    nothing.
    """
    mask[1, ..., -3:] = mask[0, 0, 6] = False
    return mask


QUERY, KEYS = normal(1, B, T, H, T), normal(2, B, T, G, T)
# The values are a diagonal, another one for each example: the output shows which connections were
# kept.
DIAGONAL = 0.5 + np.random.default_rng(3).random((B, T, G)).astype(np.float32)
VALUE = np.eye(T, dtype=np.float32)[:, None] * DIAGONAL[..., None]
BIAS, COTANGENT = normal(4, H, T, T), normal(5, B, T, H, T)
MASK = padded(coin(6, B, 1, T, T, p=0.7))
DROPPABLE = coin(7, H, T, T, p=0.6)

# What a mask depends on, of its four axes; the others are shared, or no coordinates of the unit:
# (unit, stage, share) -> axes.
SETTINGS = {
    ("connection", "weights", ()): "bhts",
    ("connection", "weights", ("head",)): "b-ts",
    ("connection", "weights", ("example", "head")): "--ts",
    ("connection", "weights", ("query",)): "bh-s",
    ("connection", "weights", ("example", "head", "query")): "---s",
    ("connection", "logits", ()): "bhts",
    ("connection", "logits", ("example", "query")): "-h-s",
    ("key", "weights", ()): "bh-s",
    ("key", "logits", ("head",)): "b--s",
    ("query", "weights", ()): "bht-",
    ("query", "weights", ("example",)): "-ht-",
    ("query", "logits", ("head",)): "b-t-",
    ("head", "weights", ()): "bh--",
    ("head", "weights", ("example",)): "-h--",
    ("head", "logits", ()): "bh--",
    ("span", "weights", ()): "bhts",
    ("span", "weights", ("query",)): "bh-s",
    ("span", "logits", ("example", "head")): "--ts",
}
CAUSAL = {setting for number, setting in enumerate(SETTINGS) if number % 2}
IMPLEMENTATIONS = ("reference", "blockwise", "tiles of 4 x 16, all heads at once")


@pytest.fixture(autouse=True)
def tiles_of_8_by_16(monkeypatch):
    """What "blockwise" chooses here; it computes a head at a time on CPU."""
    monkeypatch.setattr(kernel, "ROWS", 16)


def named(setting):
    return "-".join((*setting[:2], *setting[2]))


def described(setting, rate):
    unit, stage, share = setting
    return AttentionDropout(rate, unit, stage, share, SPAN if unit == "span" else None)


def attention(
    implementation,
    query,
    key,
    value,
    bias=None,
    mask=None,
    *,
    dropout,
    dropout_key=KEY,
    droppable=None,
    is_causal=False,
):
    query, key, value, bias, mask, droppable = (
        None if x is None else jnp.asarray(x) for x in (query, key, value, bias, mask, droppable)
    )
    if implementation in ("reference", "blockwise"):
        return dot_product_attention(
            query,
            key,
            value,
            bias,
            mask,
            dropout=dropout,
            dropout_key=dropout_key,
            droppable=droppable,
            is_causal=is_causal,
            implementation=implementation,
        )
    words = (
        None
        if dropout.changes_nothing
        else masks.mask_words(dropout, dropout_key, None, len(query), jnp.arange(query.shape[2]))
    )

    def four(x):
        return None if x is None else jnp.reshape(x, (1,) * (4 - x.ndim) + x.shape)

    inputs = inputs_of(
        query,
        key,
        value,
        *map(four, (bias, mask, droppable)),
        words,
        dropout,
        is_causal=is_causal,
        scale=query.shape[-1] ** -0.5,
    )
    return kernel.attention(*inputs, query_block=4, key_block=16, heads_at_once=0)


def loops(setting, keep, rate, **options):
    return by_hand.attention_and_gradients(
        QUERY,
        KEYS,
        VALUE,
        BIAS,
        MASK,
        keep=keep,
        rate=rate,
        stage=setting[1],
        is_causal=setting in CAUSAL,
        **options,
    )


@cache
def drawn(setting, rate, key_per_example=False):
    unit, _, share = setting
    return by_hand.keep_mask(
        KEYS_PER_EXAMPLE if key_per_example else KEY,
        rate,
        num_examples=B,
        heads=range(H),
        queries=range(T),
        keys=range(T),
        unit=unit,
        share=share,
        span_length=SPAN,
    )


EXAMPLES = range(B)


def replayed(description, dropout_key=KEY, examples=EXAMPLES):
    examples = None if examples is None else jnp.array(examples)
    return keep_mask(
        description,
        dropout_key,
        examples=examples,
        heads=jnp.arange(H),
        queries=jnp.arange(T),
        keys=jnp.arange(T),
    )


def run(implementation, setting, rate, dropout_key=KEY, droppable=None):
    """(output, the replayed mask, gradients for query, key, value, bias) of one program, whose rate
    is traced.
    """

    @jit
    def program(rate, floats):
        description = described(setting, rate)

        def call(*floats):
            return attention(
                implementation,
                *floats,
                MASK,
                dropout=description,
                dropout_key=dropout_key,
                droppable=droppable,
                is_causal=setting in CAUSAL,
            )

        out, back = jax.vjp(call, *floats)
        return (
            out,
            replayed(description, dropout_key, range(B) if dropout_key.ndim == 0 else None),
            back(jnp.asarray(COTANGENT)),
        )

    return jax.tree.map(np.asarray, program(rate, (QUERY, KEYS, VALUE, BIAS)))


def varies(mask):
    """Along which of its four axes a mask [B, H, T, S] varies, as in SETTINGS."""
    return "".join(
        name if np.any(mask != mask.take([0], axis)) else "-" for axis, name in enumerate("bhts")
    )


def compare(found, expected):
    (out, _, gradients), (expected_out, weights, expected_gradients) = found, expected
    # Bit for bit: what the output shows is what the loops read and kept.
    np.testing.assert_array_equal(np.swapaxes(out, 1, 2) > 0, weights > 0)
    np.testing.assert_allclose(out, expected_out, rtol=2e-4, atol=1e-5)
    *expected_gradients, bias = expected_gradients
    for x, y in zip(gradients, (*expected_gradients, bias.sum(0)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-4 * np.abs(y).max())


def test_the_gradients_of_the_loops_are_those_of_small_differences():
    setting = ("connection", "weights", ())
    keep = drawn(setting, 0.4)
    *_, gradients = loops(setting, keep, 0.4, droppable=DROPPABLE, cotangent=COTANGENT)
    names, inputs = ("query", "key", "value", "bias"), (QUERY, KEYS, VALUE, BIAS)
    for name, x, gradient in zip(names, inputs, (*gradients[:3], gradients[3].sum(0)), strict=True):
        direction, size = normal(8, *x.shape).astype(float), 1e-5

        def call(moved, name=name):
            arguments = dict(zip(names, inputs, strict=True)) | {name: moved}
            options = {"mask": MASK, "keep": keep, "rate": 0.4, "droppable": DROPPABLE}
            return np.sum(COTANGENT * by_hand.attention(**arguments, **options)[0])

        rise = call(x + size * direction) - call(x - size * direction)
        np.testing.assert_allclose(np.sum(gradient * direction), rise / (2 * size), rtol=1e-6)


@pytest.mark.short_cases(
    "connection-weights-reference", "connection-weights-blockwise", "head-logits-blockwise"
)
@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(setting, marks=pytest.mark.system if setting[2] else (), id=named(setting))
        for setting in SETTINGS
    ],
)
def test_masks_outputs_and_gradients_are_the_loops(setting, implementation):
    rate = 0.4 if setting[1] == "weights" else 0.7
    keep = drawn(setting, rate)
    found = run(implementation, setting, rate)
    np.testing.assert_array_equal(found[1], keep)
    assert keep.any() and not keep.all()
    compare(found, loops(setting, keep, rate, cotangent=COTANGENT))


@pytest.mark.short_cases("connection-weights", "connection-weights-head")
@pytest.mark.parametrize("setting", SETTINGS, ids=named)
def test_what_is_shared_is_equal_and_all_else_differs(setting):
    mask = np.asarray(replayed(described(setting, 0.5)))
    assert varies(mask) == SETTINGS[setting]
    if setting[0] == "span":
        spans = mask[..., : T // SPAN * SPAN].reshape(B, H, T, -1, SPAN)
        np.testing.assert_array_equal(spans, np.broadcast_to(spans[..., :1], spans.shape))
        assert np.any(spans[..., 1:, 0] != spans[..., :-1, 0])


DROPPED_IN_PART = [("span", "weights", ("head",)), ("connection", "logits", ())]


@pytest.mark.short_cases("connection-logits-reference")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("setting", DROPPED_IN_PART, ids=named)
def test_droppable_connections_with_a_key_per_example(setting, implementation):
    rate = 0.7
    keep = drawn(setting, rate, key_per_example=True)
    found = run(implementation, setting, rate, KEYS_PER_EXAMPLE, DROPPABLE)
    np.testing.assert_array_equal(found[1], keep)
    compare(found, loops(setting, keep, rate, cotangent=COTANGENT, droppable=DROPPABLE))


@pytest.mark.short_cases()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("causal", [False, True])
def test_dropkey_never_reads_what_it_must_not(implementation, causal):
    """At so high a rate most rows lose every allowed key: they read what they read without dropout,
    and nothing else.
    """
    description = AttentionDropout(0.93, stage="logits")
    call = jit(
        lambda *floats, dropout: attention(
            implementation, *floats, BIAS, MASK, dropout=dropout, is_causal=causal
        )
    )
    dropped, plain = (
        np.asarray(call(QUERY, KEYS, VALUE, dropout=x)).swapaxes(1, 2)
        / DIAGONAL.repeat(H // G, 2).swapaxes(1, 2)[:, :, None]
        for x in (description, AttentionDropout(0.0, stage="logits"))
    )
    allowed = np.broadcast_to(MASK & (np.tri(T, dtype=bool) if causal else True), plain.shape)
    nothing = ~allowed.any(-1)
    left = np.asarray(replayed(description)) & allowed
    lost = ~left.any(-1) & ~nothing
    assert lost.mean() > 0.1 and left.any(-1).mean() > 0.1 and nothing.any()
    np.testing.assert_array_equal(
        (dropped > 0)[~nothing], np.where(lost[..., None], allowed, left)[~nothing]
    )
    np.testing.assert_allclose(dropped[lost], plain[lost], rtol=1e-5)
    np.testing.assert_allclose(
        dropped[~nothing].sum(-1), 1, rtol=1e-5
    )  # no scaling: rows still sum to 1
    np.testing.assert_allclose(
        dropped[nothing], 1 / T, rtol=1e-5
    )  # the mean of all real values, none of a block's filling


@pytest.mark.short_cases("query-logits-reference", "query-logits-blockwise")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "setting", [("query", "logits", ()), ("head", "logits", ("example",))], ids=named
)
def test_dropkey_of_whole_rows_changes_nothing(setting, implementation):
    call = jit(
        lambda dropout: attention(implementation, QUERY, KEYS, VALUE, BIAS, MASK, dropout=dropout)
    )
    assert not np.asarray(replayed(described(setting, ALMOST_ALL))).any()
    np.testing.assert_array_equal(
        call(described(setting, ALMOST_ALL)), call(described(setting, 0.0))
    )


# The axes along which the masks of others vary, from their source: where they set the shape of the
# draw to 1, nothing varies.
PEERS = {
    "Vaswani": "bhts",  # all of [B, H, T, S]
    "Flax with": "--ts",  # linen/attention.py: [1] * (key.ndim - 2) + weights.shape[-2:]
    "T5": "bh-s",  # t5x/examples/t5/layers.py: shape[-2] = 1 of [B, H, T, S]
    # model_lib/layers/attention_layers.py: shape[0] = shape[-2] = 1 of [B, H, T, S]
    "Scenic": "-h-s",
    "DropKey": "bhts",  # an array of attn's shape
    "DropHead": "bh--",  # a head of an example
}


def table():
    """First column -> the settings of the second, from the table of dropout.py's docstring."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", dropout.__doc__, re.MULTILINE)
    settings = r'(unit|stage|share)=("\w+"|\([^)]*\))'
    return {
        name: [{key: ast.literal_eval(value)} for key, value in re.findall(settings, cell)]
        for name, cell in rows
        if "=" in cell
    }


@pytest.mark.short_cases()
@pytest.mark.parametrize("peer", PEERS)
def test_each_peer_s_sharing_is_the_setting_that_the_table_names(peer):
    rows = [settings for name, settings in table().items() if name.startswith(peer)]
    assert len(rows) == 1, "one row of the table"
    for settings in rows[0]:
        assert varies(np.asarray(replayed(AttentionDropout(0.5, **settings)))) == PEERS[peer], (
            settings
        )


def test_flax_s_own_masks_vary_as_the_table_says():
    q = jnp.zeros((B, T, H, 1))
    for broadcast, axes in ((True, PEERS["Flax with"]), (False, PEERS["Vaswani"])):
        weights = linen.dot_product_attention_weights(
            q, q, dropout_rng=KEY, dropout_rate=0.5, broadcast_dropout=broadcast
        )
        assert varies(np.asarray(weights) > 0) == axes


def test_all_queries_sharing_a_mask_is_the_unit_key():
    np.testing.assert_array_equal(
        replayed(AttentionDropout(0.5, share=("query",))), replayed(AttentionDropout(0.5, "key"))
    )


def test_flax_modules_get_every_setting():
    options = {"unit": "span", "stage": "logits", "share": ("head",), "span_length": SPAN}
    for implementation in ("reference", "blockwise"):
        ours = attention_fn(**options, implementation=implementation)(
            *map(jnp.asarray, (QUERY, KEYS, VALUE)), dropout_rng=KEY, dropout_rate=0.6
        )
        expected = attention(
            implementation, QUERY, KEYS, VALUE, dropout=AttentionDropout(0.6, **options)
        )
        np.testing.assert_array_equal(ours, expected)


# What a user gets wrong, and what the message must say: the argument, what it was, what is allowed.
MISTAKES = [
    ({"unit": "neuron"}, "unit: 'neuron'; allowed: 'connection', 'key', 'query', 'head', 'span'"),
    ({"stage": "values"}, "stage: 'values'; allowed: 'weights', 'logits'"),
    (
        {"share": ("layer",)},
        "share: 'layer' with unit 'connection'; allowed: 'example', 'head', 'query'",
    ),
    (
        {"share": ("key",)},
        "share: 'key' with unit 'connection'; allowed: 'example', 'head', 'query'",
    ),
    (
        {"unit": "key", "share": ("query",)},
        "share: 'query' with unit 'key'; allowed: 'example', 'head'",
    ),
    (
        {"unit": "head", "share": ("example", "query")},
        "share: 'query' with unit 'head'; allowed: 'example', 'head'",
    ),
    ({"share": "head"}, "share: 'head'; allowed is a tuple of different names"),
    ({"share": ("head", "head")}, "share: ('head', 'head'); allowed is a tuple of different names"),
    ({"unit": "span"}, "span_length: None with unit 'span'; allowed is a number of keys"),
    (
        {"unit": "span", "span_length": 0},
        "span_length: 0; allowed is a whole number of keys, 1 or more",
    ),
    (
        {"unit": "span", "span_length": 2.5},
        "span_length: 2.5; allowed is a whole number of keys, 1 or more",
    ),
    ({"unit": "span", "span_length": True}, "span_length: True; allowed is a whole number"),
    (
        {"unit": "span", "span_length": 2**32},
        "span_length: 4294967296; allowed is a whole number of keys, 1 or more, below 2^32",
    ),
    ({"unit": ["key"]}, "unit: ['key']; allowed: 'connection'"),
    ({"share": None}, "share: None; allowed is a tuple of different names"),
    (
        {"unit": "key", "span_length": 3},
        (
            "span_length: 3 with unit 'key'; allowed is a number of keys with unit 'span', None"
            " with any other"
        ),
    ),
]


@pytest.fixture
def as_users_run_it():
    """Without the checks of shapes that only the tests install."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_mistakes_are_named_where_they_are_made(options, message, as_users_run_it):
    for make in (partial(AttentionDropout, 0.1), attention_fn):
        with pytest.raises(ValueError) as error:
            make(**options)
        assert str(error.value).startswith(message)


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
def test_a_key_per_example_has_no_mask_in_common(implementation):
    description = AttentionDropout(0.5, share=("example",))
    message = r"dropout_key: \(2,\) keys, one per example, with share 'example'; allowed is one key"
    with pytest.raises(ValueError, match=message):
        attention(
            implementation, QUERY, KEYS, VALUE, dropout=description, dropout_key=KEYS_PER_EXAMPLE
        )
    with pytest.raises(ValueError, match=message):
        replayed(description, KEYS_PER_EXAMPLE, None)


RATES = (0.0, 0.25, 0.5, 0.875)
TRACED = [("span", "weights", ("head",)), ("connection", "logits", ())]


@pytest.fixture(scope="module")
def expected():
    """The output [B, T, H, T] of the loops for each setting and rate."""
    return {
        (setting, rate): loops(setting, drawn(setting, rate), rate)[0]
        for setting in TRACED
        for rate in RATES
    }


@pytest.mark.short_cases()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("setting", TRACED, ids=named)
def test_one_compilation_serves_all_rates(setting, implementation, expected):
    traces = []

    def call(description):
        traces.append(description)
        return attention(
            implementation,
            QUERY,
            KEYS,
            VALUE,
            BIAS,
            MASK,
            dropout=description,
            is_causal=setting in CAUSAL,
        )

    program = jit(call)
    for rate in RATES:
        found = program(described(setting, rate))
        np.testing.assert_allclose(found, expected[setting, rate], rtol=2e-4, atol=1e-5)
    assert len(traces) == 1 and program._cache_size() == 1

    mapped = jit(jax.vmap(lambda rate: call(described(setting, rate))))(jnp.array(RATES))
    for found, rate in zip(mapped, RATES, strict=True):
        np.testing.assert_allclose(found, expected[setting, rate], rtol=2e-4, atol=1e-5)

    # A schedule: the rate of each step is computed inside the compiled loop.
    def schedule(step):
        return jnp.where(step < 3, step * 0.25, 0.875)

    _, scheduled = jit(
        lambda: jax.lax.scan(
            lambda _, step: (None, call(described(setting, schedule(step)))), None, jnp.arange(4)
        )
    )()
    np.testing.assert_allclose(scheduled, mapped, rtol=1e-5, atol=1e-6)

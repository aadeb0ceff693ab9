"""What the audit sees of jaxreg's own attention, which draws its masks in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxreg
from jaxreg import audit
from jaxreg.attention import replay
from jaxreg.audit import draws, report, sites, suite
from jaxreg.audit.bench import Bench
from tests.audit import planted

WIDTH, LENGTH, HEADS = planted.WIDTH, planted.LENGTH, planted.HEADS


class Model(nnx.Module):
    """Attention by jaxreg, and Flax's dropout, which differs for every example."""

    def __init__(self, rngs, **settings):
        self.embed = nnx.Embed(planted.VOCABULARY, WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            HEADS,
            WIDTH,
            dropout_rate=0.2,
            decode=False,
            attention_fn=jaxreg.attention_fn(**settings),
            rngs=rngs,
        )
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.out = nnx.Linear(WIDTH, planted.VOCABULARY, rngs=rngs)

    def __call__(self, tokens, mask):
        x = self.embed(tokens)
        return self.out(self.dropout(self.attention(x, mask=nnx.make_causal_mask(tokens))))


def bench(compiled: bool = False, **settings) -> Bench:
    """The bench of the model with these settings of its attention."""

    class Compiled(Model):
        def __call__(self, tokens, mask):
            return nnx.jit(Model.__call__)(self, tokens, mask)

    kind = Compiled if compiled else Model
    make = lambda rngs: kind(rngs, **settings)  # noqa: E731
    return Bench(audit.nnx(make, planted.batch, arguments=planted.arguments, causal=True))


def statuses(*given, **settings) -> tuple[str, str]:
    """Those of `examples_differ` and of `heads_differ`."""
    made = bench(*given, **settings)
    examples, heads = (suite.outcome(made, f"{name}_differ") for name in ("examples", "heads"))
    return examples.status, heads.status


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
def test_masks_of_their_own_are_seen(implementation):
    made = bench(implementation=implementation)
    findings = [suite.outcome(made, name) for name in ("examples_differ", "heads_differ")]
    assert [each.status for each in findings] == ["ok", "ok"]
    assert findings[1].detail == "masks of 2 heads: drawn for each"
    assert "not looked into" not in findings[0].detail
    lines = report.drawn_lines(sites.drawn(made), made.trace().unseen)
    assert "  [8, 2, 8, 8], rate 0.2, in jaxreg's attention" in lines and len(lines) == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"share": ("example", "head")}, ("FAILED", "FAILED")),
        ({"share": ("example", "head"), "implementation": "blockwise"}, ("FAILED", "FAILED")),
        ({"share": ("example", "head"), "compiled": True}, ("FAILED", "FAILED")),
        ({"share": ("head",)}, ("ok", "FAILED")),
        ({"share": ("example",)}, ("FAILED", "ok")),
        ({"share": ("example",), "unit": "head"}, ("FAILED", "not applicable")),
        ({"unit": "key"}, ("ok", "not applicable")),
    ],
    ids=lambda value: str(value),
)
def test_masks_that_are_shared_fail(settings, expected):
    assert statuses(**settings) == expected


def test_two_calls_with_one_key_share_their_masks():
    def function(state, batch, key):
        query = jnp.ones((3, 4, 2, 8))
        drop = {"dropout": jaxreg.AttentionDropout(0.5), "dropout_key": key}
        first = jaxreg.dot_product_attention(query, query, query, **drop)
        return jaxreg.dot_product_attention(first, query, query, **drop)

    found = draws.trace(function, {}, (), jax.random.key(0))
    assert [(draw.shape, draw.rate) for draw in found.draws] == [((3, 2, 4, 4), 0.5)] * 2
    np.testing.assert_array_equal(found.draws[0].keys, found.draws[1].keys)
    assert found.lost == (draws.OURS,) and not found.unseen


def test_examples_by_vmap_have_their_keys_axis():
    def function(state, batch, keys):
        query = jnp.ones((3, 4, 2, 8))

        def one(query, key):
            drop = {"dropout": jaxreg.AttentionDropout(0.5), "dropout_key": key}
            return jaxreg.dot_product_attention(query, query, query, **drop)

        return jax.vmap(one)(query, keys)

    found = draws.shapes(function, {}, (), jax.random.split(jax.random.key(0), 3))
    assert found.drawn == [(draws.OURS, (3, 2, 4, 4))] and found.of_exp == [(3, 2, 4, 4)]


def test_a_mark_is_read_as_it_was_written():
    for mark in (replay.Mark((8, 2, 1, 16), 0.1), replay.Mark((4,), None)):
        assert replay.read_mark(f"Block_0/{mark.name}") == (mark, "Block_0")
        assert replay.read_mark(f"jvp({mark.name})/add")[0] == mark
    assert replay.read_mark("Block_0/add") == (None, "Block_0/add")

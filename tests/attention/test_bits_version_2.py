"""Bits version 2: what its definition says, the same mask from every implementation, opt-in, and
its quality.
"""

import dataclasses
import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxreg import AttentionDropout, attention_fn, dot_product_attention, keep_mask, rng
from jaxreg.attention import conformance, masks
from jaxreg.attention import dropout as dropout_module
from jaxreg.attention.blockwise import kernel
from jaxreg.probe import attention as probe
from jaxreg.study.design.model_section import transformer
from jaxreg.study.engine import members
from jaxreg.study.report import example_sentence
from tests.attention import bits_record as record
from tests.attention import bits_structure as structure
from tests.helpers import attention_by_hand as by_hand

KEY = jax.random.key(5)
RATE = 0.4
B, H, T, S = 2, 2, 7, 9
IDS = np.array([3, 11])
ONES = 0xFFFFFFFF
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# Words of a group, words of a key, words of their connection: reckoned by hand for the first (one
# bit: M1, its shift, and so on) and by a program in C, written apart, for the others.
KNOWN_MIXINGS = [((0, 0), (0, 0), (0, 0)), ((1, 2), (3, 0x80000000), (0x3D834FAA, 0x7FCA40B7))]

KINDS = {
    "connection": {},
    "key": {"unit": "key"},
    "query": {"unit": "query"},
    "head": {"unit": "head"},
    "span": {"unit": "span", "span_length": 3},
    "shared": {"share": ("example", "head")},
}


def expected(**kind):
    at = {"heads": range(H), "queries": range(T), "keys": range(S), "example_ids": IDS}
    return by_hand.keep_mask(KEY, RATE, num_examples=B, **at, **kind, bits=2)


def weights(dropout, implementation):
    """[B, H, T, S]: equal logits, and the identity as values."""
    query, key = jnp.zeros((B, T, H, 4)), jnp.zeros((B, S, H, 4))
    value = jnp.broadcast_to(jnp.eye(S)[:, None], (B, S, H, S))
    options = {
        "dropout_key": KEY,
        "example_ids": jnp.asarray(IDS),
        "implementation": implementation,
    }
    out = jit(partial(dot_product_attention, **options))(query, key, value, dropout=dropout)
    return np.asarray(out).swapaxes(1, 2)


@pytest.mark.parametrize(("of_group", "of_key", "answer"), KNOWN_MIXINGS)
def test_the_mixing_of_two_tables_words(of_group, of_key, answer):
    given = (tuple(map(jnp.uint32, pair)) for pair in (of_group, of_key))
    assert tuple(map(int, masks.mixed(*given))) == answer


def test_the_mixing_is_invertible_so_uniform_tables_give_uniform_words():
    inverses = [pow(m, -1, 2**32) for m, _ in masks.MIXING]
    words = np.random.default_rng(0).integers(0, 2**32, (1000, 2), dtype=np.uint32)
    zero = (jnp.uint32(0), jnp.uint32(0))
    x, y = (np.asarray(w) for w in masks.mixed(tuple(jnp.asarray(words.T)), zero))
    with np.errstate(over="ignore"):
        for step in reversed(range(len(inverses))):
            _, shift = masks.MIXING[step]
            y = y ^ y >> shift ^ (y >> 2 * shift if 2 * shift < 32 else 0)
            y = y * np.uint32(inverses[step]) - (x if step else np.uint32(0))
            x, y = y, x
    np.testing.assert_array_equal(np.stack([x, y], 1), words)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_the_one_of_the_definition_written_in_loops(kind):
    at = {"examples": IDS, "heads": np.arange(H), "queries": np.arange(T), "keys": np.arange(S)}
    at = {name: jnp.asarray(x) for name, x in at.items()}
    kept = jit(keep_mask)(AttentionDropout(RATE, **KINDS[kind], bits=2), KEY, **at)
    np.testing.assert_array_equal(kept, expected(**KINDS[kind]))


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_uses_that_mask(kind, implementation, monkeypatch):
    monkeypatch.setattr(kernel, "ROWS", 4)  # several tiles, the last ones cut
    found = weights(AttentionDropout(RATE, **KINDS[kind], bits=2), implementation)
    np.testing.assert_array_equal(found > 0, expected(**KINDS[kind]))
    scale = by_hand.keep_scale(RATE)
    np.testing.assert_allclose(found[found > 0], scale / S, rtol=1e-6)


@pytest.mark.system
def test_the_backward_pass_draws_it_again(monkeypatch):
    monkeypatch.setattr(kernel, "ROWS", 4)
    query, key, value = (
        jax.random.normal(jax.random.key(n), (B, length, H, 4))
        for n, length in enumerate((T, S, S))
    )

    def gradients(implementation):
        def loss(*arrays):
            out = dot_product_attention(
                *arrays,
                dropout=AttentionDropout(RATE, bits=2),
                dropout_key=KEY,
                implementation=implementation,
            )
            return jnp.sum(out**2)

        return jit(jax.grad(loss, (0, 1, 2)))(query, key, value)

    pairs = zip(gradients("blockwise"), gradients("reference"), strict=True)
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_opt_in_and_has_masks_of_its_own():
    assert AttentionDropout(RATE) == AttentionDropout(RATE, bits=1)
    first, default, second = (
        weights(dropout, "reference") > 0
        for dropout in (
            AttentionDropout(RATE, bits=1),
            AttentionDropout(RATE),
            AttentionDropout(RATE, bits=2),
        )
    )
    np.testing.assert_array_equal(first, default)
    assert 0.3 < np.mean(first != second) < 0.7  # 2 * .4 * .6 for independent ones


@pytest.mark.parametrize("bits", [0, 3, -1, True])
def test_another_version_is_refused(bits):
    with pytest.raises(ValueError, match=r"^bits: .*; allowed: 1, 2$"):
        AttentionDropout(RATE, bits=bits)
    with pytest.raises(ValueError, match=r"^bits: .*; allowed: 1, 2$"):
        attention_fn(bits=bits)


@pytest.mark.system
def test_flax_attention_draws_it_in_linen_and_in_nnx():
    x = jax.random.normal(jax.random.key(1), (2, 6, 8))
    first, second = attention_fn(), attention_fn(bits=2)
    assert first != second and "bits=2" in repr(second) and "bits" not in repr(first)
    options = {"num_heads": 2, "qkv_features": 8, "dropout_rate": 0.5}
    linen = [
        nn.MultiHeadDotProductAttention(**options, attention_fn=f, deterministic=False)
        for f in (first, second)
    ]
    params = linen[0].init({"params": KEY, "dropout": KEY}, x)
    outputs = [module.apply(params, x, rngs={"dropout": KEY}) for module in linen]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    drawn = []
    for f in (first, second):
        module = nnx.MultiHeadAttention(
            in_features=8, decode=False, **options, attention_fn=f, rngs=nnx.Rngs(0, dropout=3)
        )
        drawn.append(module(x, deterministic=False))
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    query, ids = jnp.zeros((2, 6, 2, 4)), jnp.arange(2)
    value = jnp.broadcast_to(jnp.eye(6)[:, None], (2, 6, 2, 6))
    out = second(query, query, value, dropout_rng=KEY, dropout_rate=0.5)
    positions = {"heads": jnp.arange(2), "queries": jnp.arange(6), "keys": jnp.arange(6)}
    kept = keep_mask(AttentionDropout(0.5, bits=2), KEY, examples=ids, **positions)
    np.testing.assert_array_equal(np.asarray(out).swapaxes(1, 2) > 0, kept)


@pytest.mark.parametrize("bits", [1, 2])
def test_a_configured_model_draws_it_and_the_replay_finds_it(bits):
    rows, length, heads = 3, 6, 2
    model = transformer(
        vocab_size=9,
        num_outputs=3,
        num_layers=1,
        width=4,
        num_heads=heads,
        mlp_width=4,
        max_length=length,
        attention_dropout_rate=0.5,
        attention_dropout_bits=bits,
    )
    tokens = jnp.ones((rows, length), jnp.int32)
    params = model.init(jax.random.key(0), tokens)
    key = rng.step_key(rng.seed_key(7, "dropout"), 3)
    _, sown = model.apply(
        params,
        tokens,
        train=True,
        dropout_key=key,
        example_ids=jnp.arange(rows),
        mutable="intermediates",
    )
    weights = sown["intermediates"]["block_0"]["attention"]["attention_weights"][0]
    steps, shape = np.full(rows, 3), (1, heads, length)
    kept = probe.replay_masks(0.5, 7, steps, np.arange(rows), *shape, bits=bits)
    np.testing.assert_array_equal(np.asarray(weights) > 0, kept[:, 0])


def test_a_stored_arm_says_its_version():
    model = {"attention_dropout_bits": 2}
    spec = members.Spec("arm", 0, 0, {"model": model}, "hash", "data")
    assert example_sentence.bits_of(spec) == 2
    older = dataclasses.replace(spec, config={"model": {}})
    assert example_sentence.bits_of(older) == 1


def test_an_exported_dropout_from_before_has_version_1():
    static = dropout_module._static_fields(json.dumps(["span", "weights", [], 3]).encode())
    assert static == ("span", "weights", (), 3, 1)
    static = dropout_module._static_fields(json.dumps(["key", "weights", [], None, 2]).encode())
    assert static == ("key", "weights", (), None, 2)


@pytest.mark.system
def test_it_conforms():
    assert {result.status for result in conformance.run(attention_fn(bits=2), quick=True)} == {"ok"}


def below_the_bound(results):
    return [name for name, x in results.items() if not x["p"] > record.FALSE_ALARMS / len(results)]


@pytest.mark.system
def test_few_bits_pass():
    assert not below_the_bound(record.small(2))


@pytest.mark.system
@pytest.mark.parametrize("bits", [1, 2])
def test_related_draws_pass(bits):
    found = structure.small(bits)
    assert list(found) == list(json.loads(structure.RECORD.read_text())[f"bits {bits}"])
    assert not below_the_bound(found)


@pytest.mark.system
def test_these_statistics_find_one_and_two_steps_of_mixing(monkeypatch):
    all_steps = masks.MIXING
    for steps in (1, 2):
        monkeypatch.setattr(masks, "MIXING", all_steps[:steps])
        jax.clear_caches()
        found = below_the_bound(structure.small(2))
        assert "bits_of_a_pair, rectangles" in found and "rank, bit 0" in found, steps
    jax.clear_caches()


def test_the_record_is_whole_and_passes():
    stored = json.loads(record.RECORDS[2].read_text())
    first = json.loads(record.RECORDS[1].read_text())
    assert stored["bits_version"] == 2
    assert list(stored["statistics"]) == list(first["statistics"])
    for name, found in stored["statistics"].items():
        sizes = (
            {k: v for k, v in x.items() if k != "p"} for x in (found, first["statistics"][name])
        )
        assert next(sizes) == next(sizes), name
    assert not below_the_bound(stored["statistics"])


def test_the_record_of_related_draws_is_whole_and_passes():
    stored = json.loads(structure.RECORD.read_text())
    assert list(stored) == ["bits 1", "bits 2"]
    assert list(stored["bits 1"]) == list(stored["bits 2"])
    for found in stored.values():
        assert min(x.get("bits", 2**26) for x in found.values()) >= 2**26
        assert not below_the_bound(found)

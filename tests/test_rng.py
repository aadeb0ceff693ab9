"""Key streams: pinned numbers, distinct keys, and no dependence on JAX's settings."""

import itertools

import jax
import numpy as np
import pytest

from jaxreg import rng


def words(key):
    return tuple(map(int, jax.random.key_data(key)))


def test_the_tables_are_append_only():
    # Published results depend on these numbers: add new ones at the end, and here.
    assert rng.STREAMS == {
        "init": 0,
        "dropout": 1,
        "fresh": 2,
        "noise": 3,
        "second": 4,
        "augment": 5,
    }
    assert rng.PLACES == {
        "embedding": 0,
        "attention": 1,
        "attention_residual": 2,
        "mlp_pre_activation": 3,
        "mlp": 4,
        "mlp_residual": 5,
        "token": 6,
        "key": 7,
        "layer": 8,
        "attention_depth": 9,
        "mlp_depth": 10,
        "augmentation": 11,
    }
    assert rng.site(0, "mlp") == 4 and rng.site(3, "attention") == 3 * 64 + 1
    assert max(rng.PLACES.values()) < rng.PLACES_PER_LAYER == 64


def test_keys_are_fold_ins_of_the_seed():
    key = jax.random.key(7, impl="threefry2x32")
    assert words(rng.seed_key(7, "dropout")) == words(jax.random.fold_in(key, 1))
    assert words(rng.step_key(rng.seed_key(7, "dropout"), 5)) == words(
        jax.random.fold_in(jax.random.fold_in(key, 1), 5)
    )


def test_other_seeds_streams_steps_and_sites_give_other_keys():
    keys = [
        words(jax.random.fold_in(rng.step_key(rng.seed_key(seed, stream), step), site))
        for seed, stream, step, site in itertools.product(
            range(3), rng.STREAMS, range(3), (rng.site(0, "attention"), rng.site(1, "mlp"))
        )
    ]
    assert len(set(keys)) == len(keys)


def test_the_kind_of_key_is_fixed_and_seeds_may_be_traced():
    expected = words(rng.seed_key(3, "init"))
    with jax.default_prng_impl("rbg"), jax.threefry_partitionable(False):
        assert words(rng.seed_key(3, "init")) == expected
    traced = jax.jit(lambda seed: jax.random.key_data(rng.seed_key(seed, "init")))
    for seed in (np.int32(3), np.uint32(3)):
        assert tuple(map(int, traced(seed))) == expected


def test_an_unknown_stream_or_place_is_an_error():
    with pytest.raises(KeyError):
        rng.seed_key(0, "augmentation")
    with pytest.raises(KeyError):
        rng.site(0, "attention_logits")

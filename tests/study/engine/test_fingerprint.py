"""What stands beside every result, and when two of them differ."""

from importlib import metadata

import pytest

from jaxreg.study.engine.fingerprint import differing, fingerprint


@pytest.mark.optimized  # the tests' own flag would be one of them
def test_the_fingerprint_names_what_decides_the_last_bits():
    found = fingerprint()
    versions = {"jax", "jaxlib", "flax", "optax", "numpy", "scipy"}
    assert set(found) == versions | {"devices", "device_kind", "cores", "cpu_features"}
    assert found["devices"] == 8 and found["cores"] >= 1
    assert found["flax"] == metadata.version("flax")


def test_another_version_differs_and_one_that_was_not_noted_does_not():
    now = {"jax": "2", "flax": "2", "devices": 2}
    assert differing(now, now) == []
    assert differing({**now, "flax": "1"}, now) == ["flax"]
    assert differing({"jax": "2", "devices": 2}, now) == [], "from before flax was noted"
    assert differing({"jax": "2", "flax": "2"}, now) == ["devices"]
    assert differing({**now, "xla_flags": ["--x"]}, now) == ["xla_flags"]
    assert differing(now, {"jax": "2", "devices": 2}) == ["flax"]
    assert differing({"several": [now, now]}, now) != [], "two machines are none of them"

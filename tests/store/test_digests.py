"""Digests tell apart what must be told apart, and nothing else."""

import ml_dtypes
import numpy as np
import pytest

from jaxreg.store import digests as digest


def test_array_digest_depends_on_bytes_dtype_and_shape():
    array = np.arange(6, dtype=np.int32)
    others = [
        array + 1,
        array.view(np.float32),
        array.astype(np.int64),
        array.reshape(2, 3),
        array.reshape(6, 1),
    ]
    digests = {digest.array_digest(other) for other in [array, *others]}
    assert len(digests) == 6


def test_array_digest_does_not_depend_on_memory_layout():
    array = np.arange(6.0).reshape(2, 3)
    for same in (
        np.asfortranarray(array),
        array.astype(">f8"),
        np.arange(12.0).reshape(2, 6)[:, ::2] / 2,
    ):
        np.testing.assert_array_equal(same, array)
        assert digest.array_digest(same) == digest.array_digest(array)


def test_bfloat16_and_empty_arrays_have_bytes():
    assert digest.array_bytes(np.ones(3, ml_dtypes.bfloat16)).size == 6
    assert digest.array_bytes(np.zeros((0, 4))).size == 0


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([{}]), np.zeros(2, "i4,f4")])
def test_other_dtypes_are_refused(array):
    with pytest.raises(TypeError, match="cannot be stored"):
        digest.array_bytes(array)


def test_canonical_json_ignores_key_order_only():
    assert digest.json_digest({"a": 1, "b": [2]}) == digest.json_digest({"b": [2], "a": 1})
    assert digest.json_digest({"a": 1}) != digest.json_digest({"a": 1.0})

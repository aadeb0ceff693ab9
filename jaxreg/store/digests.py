"""Digests of arrays and of JSON, by which damage is detected."""

import hashlib
import json
from typing import Any

import numpy as np


def canonical_json(obj: Any) -> str:
    """The canonical JSON of an object: sorted keys, no spaces, floats by repr (1 is not 1.0).

    Raises:
      TypeError: something in it is not JSON-able.
    """
    return json.dumps(obj, sort_keys=True, separators=(",", ":"))


def json_digest(obj: Any) -> str:
    """sha256 of the canonical JSON of `obj`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


def is_sealed(obj: dict, seal: str) -> bool:
    """Whether `obj[seal]` is the digest of everything else in it.

    Raises:
      KeyError: it has no seal.
    """
    return json_digest({name: value for name, value in obj.items() if name != seal}) == obj[seal]


def array_digest(array: np.ndarray) -> str:
    """SHA-256, in hexadecimal, of an array's dtype, shape and bytes (row-major, native order)."""
    sha = hashlib.sha256(f"{array.dtype.name} {list(array.shape)}\n".encode())
    sha.update(array_bytes(array).data)
    return sha.hexdigest()


def array_bytes(array: np.ndarray) -> np.ndarray:
    """The bytes of an array in row-major native order, uint8 [n]; no copy where none is needed.

    Raises:
      TypeError: its dtype cannot be restored from its name (objects, strings, records).
    """
    try:
        restorable = not array.dtype.hasobject and dtype_named(
            array.dtype.name
        ) == array.dtype.newbyteorder("=")
    except TypeError:
        restorable = False
    if not restorable:
        raise TypeError(f"arrays of dtype {array.dtype} cannot be stored")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native).reshape(-1).view(np.uint8)


def dtype_named(name: str) -> np.dtype:
    """The dtype of a name, those of machine learning (bfloat16, float8_*) included.

    Raises:
      TypeError: no such dtype.
    """
    import ml_dtypes  # noqa: F401  (its import teaches numpy the names)

    return np.dtype(name)

"""The leaves of a state as an array of bytes and a manifest, and back, all digests verified."""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.store import digests

FORMAT = 1
CHUNK = 1 << 20
"""Bytes; the buffer is padded to whole chunks, which are compressed in parallel."""
FORCE = "to start afresh, remove that folder"


class CheckpointError(RuntimeError):
    """Checkpoints exist but cannot be used, or one could not be saved."""


class CheckpointMismatch(CheckpointError):
    """A valid checkpoint of another program; `leaves` names what differs from `like`."""

    def __init__(self, message: str, *, step: int, meta: dict, leaves: tuple[str, ...]):
        super().__init__(message)
        self.step, self.meta, self.leaves = step, meta, leaves


class Damaged(Exception):
    """Why a step directory cannot be used, in one line."""


def pack(step: int, state: Any, meta: dict) -> tuple[dict, np.ndarray]:
    """The manifest, and the bytes of all leaves one after another, padded to whole chunks."""
    leaves = _named(state)
    for path, leaf in leaves.items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(
                f"the state holds a PRNG key at {path!r}: keys are derived from (seed, step), never"
                " stored"
            )
    arrays = {path: np.asarray(leaf) for path, leaf in jax.device_get(leaves).items()}
    blocks = [_bytes_of(path, array) for path, array in arrays.items()]
    size = sum(block.size for block in blocks)
    padding = -size % CHUNK if size else CHUNK
    buffer = np.concatenate([*blocks, np.zeros(padding, np.uint8)])
    manifest = {
        "format": FORMAT,
        "step": step,
        "meta": json.loads(json.dumps(meta)),
        "leaves": [
            {
                "path": path,
                "dtype": array.dtype.name,
                "shape": list(array.shape),
                "sha256": digests.array_digest(array),
            }
            for path, array in arrays.items()
        ],
    }
    return manifest | {"sha256": digests.json_digest(manifest)}, buffer


def _bytes_of(path: str, array: np.ndarray) -> np.ndarray:
    try:
        return digests.array_bytes(array)
    except TypeError as error:
        raise TypeError(f"the state cannot be saved, at {path!r}: {error}") from None


def unpack(step: int, manifest: dict, buffer: np.ndarray) -> dict[str, np.ndarray]:
    """Path -> leaf, with every digest verified."""
    if not digests.is_sealed(manifest, "sha256"):
        raise Damaged("its manifest does not match its digest")
    if manifest["format"] != FORMAT:
        raise Damaged(f"it has format {manifest['format']}, this version reads {FORMAT}")
    if manifest["step"] != step:
        raise Damaged(f"it is step {manifest['step']} under another name")
    arrays, start = {}, 0
    for leaf in manifest["leaves"]:
        dtype, shape = digests.dtype_named(leaf["dtype"]), tuple(leaf["shape"])
        stop = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(buffer[start:stop].tobytes(), dtype).reshape(shape).copy()
        if digests.array_digest(array) != leaf["sha256"]:
            raise Damaged(f"leaf {leaf['path']!r} does not match its digest")
        arrays[leaf["path"]], start = array, stop
    return arrays


def unflatten(
    arrays: dict[str, np.ndarray], like: Any, manifest: dict, *, where: os.PathLike
) -> Any:
    """The leaves in the structure of `like`, if they are exactly those of `like`."""
    wanted = {path: (leaf.dtype.name, tuple(leaf.shape)) for path, leaf in _named(like).items()}
    found = {path: (array.dtype.name, array.shape) for path, array in arrays.items()}
    differ = (
        [f"{path} is missing" for path in wanted.keys() - found.keys()]
        + [f"{path} is not expected" for path in found.keys() - wanted.keys()]
        + [
            f"{path} is {_describe(found[path])}, not {_describe(wanted[path])}"
            for path in wanted.keys() & found.keys()
            if wanted[path] != found[path]
        ]
    )
    if differ:
        differ.sort()
        more = f"; and {len(differ) - 8} more" if len(differ) > 8 else ""
        raise CheckpointMismatch(
            f"{where} is of another program: {'; '.join(differ[:8])}{more}. Nothing is cast;"
            f" {FORCE}",
            step=manifest["step"],
            meta=manifest["meta"],
            leaves=tuple(differ),
        )
    return jax.tree_util.tree_unflatten(
        jax.tree_util.tree_structure(like), [arrays[path] for path in wanted]
    )


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by path ("params/block_0/kernel"); Python numbers become arrays."""
    named = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in named:
            raise ValueError(f"two leaves of the state have the path {name!r}")
        named[name] = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return named


def _describe(leaf: tuple[str, tuple[int, ...]]) -> str:
    return f"{leaf[0]}{list(leaf[1])}"

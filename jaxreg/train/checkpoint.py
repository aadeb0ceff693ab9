"""Checkpoints that survive a kill at any moment and notice a flipped bit.

A step directory `DIR/00000400` is written by Orbax under a temporary name and renamed when complete (on object stores, where
renaming is not atomic, Orbax's commit file marks it complete instead). It holds two items: `manifest`, JSON with the caller's
meta and the path, dtype, shape and sha256 of every leaf; and `leaves`, their bytes in one array. One array, because Orbax spends
about a millisecond on each: 150 leaves take 0.13 s apart and 0.03 s together. Saving a step again writes `00000400-1`, and only
then removes `00000400`.

A checkpoint holds no key and no iterator: both follow from (seed, step).

What Orbax leaves to its caller and this file does: digests (a flipped bit restores in silence), the search for the newest *valid*
step (an empty directory counts as latest), the comparison of dtypes (they are cast in silence), the repeated save (refused in
silence). Two processes on one directory destroy each other's steps: hold `rundir.RunLock`.
"""

import functools
import json
import os
import re
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg.train import digest

FORMAT = 1
_CHUNK = 1 << 20  # bytes; the buffer is padded to whole chunks, which are compressed in parallel
_STEP = r"(\d{8,})(?:-(\d+))?"
_LEFTOVER = rf"{_STEP}\.(orbax-checkpoint-tmp.*|deleted)"
_FORCE = "to start afresh, remove that folder"


class CheckpointError(RuntimeError):
    """Checkpoints exist and cannot be used, or one could not be saved."""


class CheckpointMismatch(CheckpointError):
    """A sound checkpoint of another program. `step` and `meta` are its own; `leaves` names what differs."""

    def __init__(self, message: str, *, step: int, meta: dict, leaves: tuple[str, ...]):
        super().__init__(message)
        self.step, self.meta, self.leaves = step, meta, leaves


class CheckpointWarning(UserWarning):
    """Something in the checkpoint folder was skipped."""


class Restored(NamedTuple):
    """A restored checkpoint: `state` has numpy leaves (own, writable memory) in the structure of `like`."""

    step: int
    state: Any
    meta: dict
    skipped: tuple[str, ...] = ()  # "name (reason)" of everything passed over


class _Entry(NamedTuple):
    step: int
    attempt: int
    name: str


class _Damaged(Exception):
    """Why a step directory cannot be used, in one line."""


class Checkpoints:
    """The checkpoints of one run, newest `max_to_keep` steps.

    Args:
      directory: a folder of their own; any path that `etils.epath` understands. Made by the first save.
      max_to_keep: steps that stay; 2 or more, so that one damaged step costs little.

    Raises:
      ValueError: `max_to_keep` below 1.
    """

    def __init__(self, directory: str | os.PathLike, *, max_to_keep: int = 2):
        from etils import epath

        if max_to_keep < 1:
            raise ValueError(f"max_to_keep is {max_to_keep}; at least one checkpoint must stay")
        path = epath.Path(directory)
        self._local = "://" not in os.fspath(path)
        self.directory = path.expanduser().resolve() if self._local else path
        self.max_to_keep = max_to_keep
        self._bad: set[str] = set()  # names found damaged; the next save removes them

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Returns once the state is on disk; then removes what is older than the newest `max_to_keep` steps.

        In a job of several processes all call it, with equal, fully addressable (or replicated) state; process 0 writes.

        Args:
          step: 0 or more. A step that is there already is replaced, the old one going only when the new one is complete.
          state: any tree of numpy or JAX arrays.
          meta: JSON-able; comes back as JSON gives it (tuples as lists).

        Raises:
          TypeError: a leaf is a PRNG key or of a dtype that cannot be stored, or `meta` is not JSON-able.
          ValueError: a negative step, or two leaves with one path.
          CheckpointError: a newer step is there that `restore_newest` did not find damaged (nothing is written), or writing
            failed; older steps are untouched.
        """
        if step < 0:
            raise ValueError(f"step is {step}; it must be 0 or more")
        manifest, buffer = _pack(step, state, meta)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._sweep()
        entries, _ = self._scan()
        newer = [entry for entry in entries if entry.step > step and entry.name not in self._bad]
        if newer:
            raise CheckpointError(f"{self.directory} holds the newer step {newer[0].step}: step {step} was not saved over it; "
                                  f"restore it first, or, {_FORCE}")
        attempts = [entry.attempt + 1 for entry in entries if entry.step == step]
        name = f"{step:08d}" + (f"-{max(attempts)}" if attempts else "")
        self._write(name, manifest, buffer)
        self._prune(_Entry(step, max(attempts, default=0), name))

    def restore_newest(self, *, like: Any) -> Restored | None:
        """The newest step whose every leaf matches its digest; None where no step was ever completed.

        Damaged steps and foreign names are passed over with one `CheckpointWarning` that names them and the step used.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct`: the structure, shapes and dtypes that the program expects.

        Raises:
          CheckpointError: there are steps, and all are damaged.
          CheckpointMismatch: the newest valid step has other leaves than `like`; nothing is cast or dropped.
        """
        newest = self._newest()
        if newest is None:
            return None
        entry, manifest, arrays, skipped = newest
        state = _unflatten(arrays, like, manifest, where=self.directory / entry.name)
        return Restored(entry.step, state, manifest["meta"], skipped)

    def newest_meta(self) -> dict | None:
        """The meta of the step that `restore_newest` would use, None where there is none: to see whose checkpoint it is.

        Raises:
          CheckpointError: there are steps, and all are damaged.
        """
        newest = self._newest()
        return None if newest is None else newest[1]["meta"]

    def _newest(self) -> tuple[_Entry, dict, dict[str, np.ndarray], tuple[str, ...]] | None:
        """(entry, manifest, leaves, what was skipped) of the newest valid step."""
        entries, others = self._scan()
        skipped = list(others)
        for entry in entries:
            try:
                manifest, arrays = self._read(entry)
            except _Damaged as error:
                self._bad.add(entry.name)
                skipped.append(f"{entry.name} ({error})")
                continue
            if skipped:
                _warn(f"skipped in {self.directory}: {'; '.join(skipped)}. Using step {entry.step} ({entry.name})")
            return entry, manifest, arrays, tuple(skipped)
        if entries:
            raise CheckpointError(f"no checkpoint in {self.directory} is usable: {'; '.join(skipped)}. "
                                  f"Training does not start afresh in silence: {_FORCE}")
        if skipped:
            _warn(f"skipped in {self.directory}: {'; '.join(skipped)}. No step was ever completed there")
        return None

    def clear(self) -> None:
        """Removes every step, oldest first; for when what was trained is stored elsewhere."""
        entries, _ = self._scan()
        for entry in reversed(entries):
            self._discard(entry.name)
        self._sweep()

    @functools.cached_property
    def _checkpointer(self):
        import orbax.checkpoint as ocp

        atomicity = ocp.path.atomicity
        commit = atomicity.AtomicRenameTemporaryPath if self._local else atomicity.CommitFileTemporaryPath
        # OCDBT although there is one array: without it Orbax 0.12.8 logs a warning at each save.
        items = ocp.CompositeCheckpointHandler(
            manifest=ocp.JsonCheckpointHandler(), leaves=ocp.PyTreeCheckpointHandler(use_ocdbt=True),
            composite_options=ocp.CompositeOptions(temporary_path_class=commit))
        return ocp.Checkpointer(items, temporary_path_class=commit)

    def _scan(self) -> tuple[list[_Entry], list[str]]:
        """The completed steps, newest first, and "name (reason)" of what else lies there."""
        entries, others = [], []
        names = sorted(path.name for path in self.directory.iterdir()) if self.directory.exists() else []
        for name in names:
            if self._is_leftover(name):
                if not name.endswith(".deleted"):
                    others.append(f"{name} (its save was never completed)")
            elif match := re.fullmatch(_STEP, name):
                entries.append(_Entry(int(match[1]), int(match[2] or 0), name))
            elif not name.startswith("."):
                others.append(f"{name} (not a checkpoint of jaxreg)")
        return sorted(entries, reverse=True), others

    def _is_leftover(self, name: str) -> bool:
        """Whether a killed save or removal left this."""
        if re.fullmatch(_LEFTOVER, name):
            return True
        return bool(not self._local and re.fullmatch(_STEP, name)
                    and not (self.directory / name / "commit_success.txt").exists())

    def _read(self, entry: _Entry) -> tuple[dict, dict[str, np.ndarray]]:
        """The manifest and the verified leaves of a step; `_Damaged` if anything at all is wrong with it."""
        import orbax.checkpoint as ocp

        as_numpy = {"bytes": ocp.RestoreArgs(restore_type=np.ndarray)}
        items = ocp.args.Composite(manifest=ocp.args.JsonRestore(),
                                   leaves=ocp.args.PyTreeRestore(restore_args=as_numpy))
        try:
            restored = self._checkpointer.restore(self.directory / entry.name, args=items)
            return restored.manifest, _unpack(entry.step, restored.manifest, restored.leaves["bytes"])
        except _Damaged:
            raise
        except Exception as error:  # a damaged file raises whatever its reader raises
            raise _Damaged(_one_line(error)) from error

    def _write(self, name: str, manifest: dict, buffer: np.ndarray) -> None:
        import orbax.checkpoint as ocp

        path = self.directory / name
        chunks = {"bytes": ocp.SaveArgs(chunk_byte_size=_CHUNK)}
        try:
            self._checkpointer.save(path, args=ocp.args.Composite(
                manifest=ocp.args.JsonSave(manifest), leaves=ocp.args.PyTreeSave({"bytes": buffer}, save_args=chunks)))
            if self._local:
                _sync(path)
        except Exception as error:
            self._sweep()  # a full disk needs the space of the half-written step
            raise CheckpointError(f"{path} could not be saved, older checkpoints are untouched: {_one_line(error)}") from error
        self._bad.discard(name)

    def _prune(self, saved: _Entry) -> None:
        """Removes damaged, replaced and superfluous steps once `saved` is safe."""
        entries, _ = self._scan()
        newest: dict[int, str] = {saved.step: saved.name}
        for entry in entries:
            if entry.name not in self._bad and len(newest) < self.max_to_keep:
                newest.setdefault(entry.step, entry.name)
        for entry in entries:
            if entry.name not in newest.values():
                self._discard(entry.name)

    def _discard(self, name: str) -> None:
        """Removes a step such that a kill half way leaves nothing that looks like one."""
        if jax.process_index() != 0:
            return
        path, doomed = self.directory / name, self.directory / f"{name}.deleted"
        try:
            if self._local:
                path.rename(doomed)
                doomed.rmtree()
            else:
                (path / "commit_success.txt").unlink(missing_ok=True)
                path.rmtree()
        except OSError as error:
            _warn(f"{path} could not be removed: {_one_line(error)}")
        self._bad.discard(name)

    def _sweep(self) -> None:
        """Removes what killed saves and removals left behind."""
        if jax.process_index() != 0 or not self.directory.exists():
            return
        for path in list(self.directory.iterdir()):
            if self._is_leftover(path.name):
                try:
                    path.rmtree()
                except OSError as error:
                    _warn(f"{path} could not be removed: {_one_line(error)}")


def _pack(step: int, state: Any, meta: dict) -> tuple[dict, np.ndarray]:
    """The manifest, and the bytes of all leaves one after another, padded to whole chunks."""
    leaves = _named(state)
    for path, leaf in leaves.items():
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(f"the state holds a PRNG key at {path!r}: keys are derived from (seed, step), never stored")
    arrays = {path: np.asarray(leaf) for path, leaf in jax.device_get(leaves).items()}
    blocks = [_bytes_of(path, array) for path, array in arrays.items()]
    size = sum(block.size for block in blocks)
    padding = -size % _CHUNK if size else _CHUNK
    buffer = np.concatenate([*blocks, np.zeros(padding, np.uint8)])
    manifest = {"format": FORMAT, "step": step, "meta": json.loads(json.dumps(meta)),
                "leaves": [{"path": path, "dtype": array.dtype.name, "shape": list(array.shape),
                            "sha256": digest.array_digest(array)} for path, array in arrays.items()]}
    return manifest | {"sha256": digest.json_digest(manifest)}, buffer


def _bytes_of(path: str, array: np.ndarray) -> np.ndarray:
    try:
        return digest.array_bytes(array)
    except TypeError as error:
        raise TypeError(f"the state cannot be saved, at {path!r}: {error}") from None


def _unpack(step: int, manifest: dict, buffer: np.ndarray) -> dict[str, np.ndarray]:
    """Every leaf by its path, after its digest was verified."""
    body = {name: value for name, value in manifest.items() if name != "sha256"}
    if digest.json_digest(body) != manifest["sha256"]:
        raise _Damaged("its manifest does not match its digest")
    if manifest["format"] != FORMAT:
        raise _Damaged(f"it has format {manifest['format']}, this version reads {FORMAT}")
    if manifest["step"] != step:
        raise _Damaged(f"it is step {manifest['step']} under another name")
    arrays, start = {}, 0
    for leaf in manifest["leaves"]:
        dtype, shape = digest.dtype_named(leaf["dtype"]), tuple(leaf["shape"])
        stop = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(buffer[start:stop].tobytes(), dtype).reshape(shape).copy()
        if digest.array_digest(array) != leaf["sha256"]:
            raise _Damaged(f"leaf {leaf['path']!r} does not match its digest")
        arrays[leaf["path"]], start = array, stop
    return arrays


def _unflatten(arrays: dict[str, np.ndarray], like: Any, manifest: dict, *, where: os.PathLike) -> Any:
    """The leaves in the structure of `like`, if they are exactly those of `like`."""
    wanted = {path: (leaf.dtype.name, tuple(leaf.shape)) for path, leaf in _named(like).items()}
    found = {path: (array.dtype.name, array.shape) for path, array in arrays.items()}
    differ = ([f"{path} is missing" for path in wanted.keys() - found.keys()]
              + [f"{path} is not expected" for path in found.keys() - wanted.keys()]
              + [f"{path} is {_describe(found[path])}, not {_describe(wanted[path])}"
                 for path in wanted.keys() & found.keys() if wanted[path] != found[path]])
    if differ:
        differ.sort()
        more = f"; and {len(differ) - 8} more" if len(differ) > 8 else ""
        raise CheckpointMismatch(f"{where} is of another program: {'; '.join(differ[:8])}{more}. Nothing is cast; {_FORCE}",
                                 step=manifest["step"], meta=manifest["meta"], leaves=tuple(differ))
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), [arrays[path] for path in wanted])


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their path ("params/block_0/kernel"); Python numbers become arrays."""
    named = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in named:
            raise ValueError(f"two leaves of the state have the path {name!r}")
        named[name] = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return named


def _describe(leaf: tuple[str, tuple[int, ...]]) -> str:
    return f"{leaf[0]}{list(leaf[1])}"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _sync(path: os.PathLike) -> None:
    """Has the kernel write a new step to the disk: its small files, its folders, its name in the parent."""
    targets = [os.path.dirname(path)]
    for folder, _, files in os.walk(path):
        targets += [folder, *(os.path.join(folder, file) for file in files)]
    for target in targets:
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _warn(message: str) -> None:
    warnings.warn(message, CheckpointWarning, stacklevel=3)

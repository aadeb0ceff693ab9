"""Checkpoints that survive a kill at any moment and detect damaged files.

A step directory `DIR/00000400` is written by Orbax under a temporary name and renamed when
complete. It holds two items: `manifest`, JSON with the caller's meta and the path, dtype, shape and
sha256 of every leaf; and `leaves`, their bytes in one array. One array, because Orbax spends about
a millisecond on each: 150 leaves take 0.13 s apart and 0.03 s together. Saving a step again writes
`00000400-1`, and only then removes `00000400`.

In an object store nothing can be renamed. There Orbax (0.12.8 refuses s3://) writes to a local
folder, the files are copied, and `commit_success.txt`, which is written last and has the sha256 of
each, makes the step complete.

In a job of several processes only the first one writes; all restore the step that it chose.

A checkpoint holds no key and no iterator: both follow from (seed, step).

Beyond Orbax this module adds digests (Orbax restores a flipped bit without an error), the search
for the newest *valid* step (there an empty directory counts as latest), the comparison of dtypes
(there they are cast), and the repeated save (there it is ignored). Two processes in one directory
destroy each other's steps: hold `lock.RunLock`.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxreg.distributed import processes
from jaxreg.errors import one_line
from jaxreg.store import digests, lease, leaves, paths
from jaxreg.store.leaves import (  # noqa: F401 (the mismatch is raised there, caught here)
    FORCE,
    CheckpointError,
    CheckpointMismatch,
    Damaged,
)

_STEP = r"(\d{8,})(?:-(\d+))?"
_LEFTOVER = rf"{_STEP}\.(orbax-checkpoint-tmp.*|deleted)"
_COMMIT = "commit_success.txt"
MOST_LETTERS = 200
"""Longest quoted error of a damaged file."""


class CheckpointWarning(UserWarning):
    """Something in the checkpoint folder was skipped."""


class Restored(NamedTuple):
    """A restored checkpoint; `state` has the structure of `like` and writable numpy leaves."""

    step: int
    state: Any
    meta: dict
    skipped: tuple[str, ...] = ()  # "name (reason)" of everything passed over


class _Entry(NamedTuple):
    step: int
    attempt: int
    name: str


class Checkpoints:
    """The checkpoints of one run, newest `max_to_keep` steps.

    Args:
      directory: a folder of their own, local or `scheme://...`. Made by the first save.
      max_to_keep: number of steps kept; give 2 or more, so that one damaged step costs little.

    Raises:
      ValueError: `max_to_keep` below 1.
    """

    def __init__(self, directory: str | os.PathLike, *, max_to_keep: int = 2):
        from etils import epath

        if max_to_keep < 1:
            raise ValueError(f"max_to_keep is {max_to_keep}; at least one checkpoint must stay")
        path = paths.as_path(directory)
        self._local = not paths.is_remote(path)
        # A path of etils, or a RemotePath: both can remove trees.
        self.directory: Any = epath.Path(path).expanduser().resolve() if self._local else path
        self.max_to_keep = max_to_keep
        self._bad: set[str] = set()  # names found damaged; the next save removes them

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Writes a step durably, then removes all but the newest `max_to_keep` steps.

        In a job of several processes all call it, with equal, fully addressable (or replicated)
        state; the first one writes, and all learn whether it succeeded.

        Args:
          step: 0 or more. An existing step is replaced; the old one is removed only when the new
            one is complete.
          state: any tree of numpy or JAX arrays.
          meta: JSON-able; comes back as JSON gives it (tuples as lists).

        Raises:
          TypeError: a leaf is a PRNG key or of a dtype that cannot be stored, or `meta` is not
            JSON-able.
          ValueError: a negative step, or two leaves with one path.
          CheckpointError: there is a newer step that `restore_newest` did not find damaged (nothing
            is written), or writing failed; older steps are untouched.
          RunDirectoryInUse: the lease on a remote run directory was lost.
        """
        if step < 0:
            raise ValueError(f"step is {step}; it must be 0 or more")
        manifest, buffer = leaves.pack(step, state, meta)
        _by_the_first(lambda: self._save(step, manifest, buffer))

    def _save(self, step: int, manifest: dict, buffer: np.ndarray) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._sweep()
        entries, _ = self._scan()
        newer = [entry for entry in entries if entry.step > step and entry.name not in self._bad]
        if newer:
            raise CheckpointError(
                f"{self.directory} holds the newer step {newer[0].step}: step {step} was not saved"
                f" over it; restore it first, or, {FORCE}"
            )
        attempts = [entry.attempt + 1 for entry in entries if entry.step == step]
        name = f"{step:08d}" + (f"-{max(attempts)}" if attempts else "")
        self._write(name, manifest, buffer)
        self._prune(_Entry(step, max(attempts, default=0), name))

    def restore_newest(self, *, like: Any) -> Restored | None:
        """The newest step whose every leaf matches its digest; None if no step was ever completed.

        Damaged steps and other files are skipped with one `CheckpointWarning` that names them and
        the step used.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct`: the structure, shapes and dtypes that
            the program expects.

        Raises:
          CheckpointError: there are steps, and all are damaged.
          CheckpointMismatch: the newest valid step has other leaves than `like`; nothing is cast or
            dropped.
        """
        newest = self._chosen()
        if newest is None:
            return None
        entry, manifest, arrays, skipped = newest
        state = leaves.unflatten(arrays, like, manifest, where=self.directory / entry.name)
        return Restored(entry.step, state, manifest["meta"], skipped)

    def newest_meta(self) -> dict | None:
        """The meta of the step that `restore_newest` would use; None if there is none.

        Raises:
          CheckpointError: there are steps, and all are damaged.
        """
        newest = self._chosen()
        return None if newest is None else newest[1]["meta"]

    def _chosen(self) -> tuple[_Entry, dict, dict[str, np.ndarray], tuple[str, ...]] | None:
        """The result of `_newest` in the first process, on all processes."""
        newest = _by_the_first(self._newest)
        entry = processes.agree(None if newest is None else list(newest[0]))
        if entry is None or newest is not None:
            return newest
        entry = _Entry(*entry)
        try:
            with _storage_errors():
                return entry, *self._read(entry), ()
        except Damaged as error:
            raise CheckpointError(
                f"{self.directory / entry.name}: process {processes.index()} cannot read what"
                f" process 0 could: {error}"
            ) from error

    def _newest(self) -> tuple[_Entry, dict, dict[str, np.ndarray], tuple[str, ...]] | None:
        """(entry, manifest, leaves, skipped) of the newest valid step."""
        entries, others = self._scan()
        skipped = list(others)
        for entry in entries:
            try:
                manifest, arrays = self._read(entry)
            except Damaged as error:
                self._bad.add(entry.name)
                skipped.append(f"{entry.name} ({error})")
                continue
            if skipped:
                used = f"Using step {entry.step} ({entry.name})"
                _warn(f"skipped in {self.directory}: {'; '.join(skipped)}. {used}")
            return entry, manifest, arrays, tuple(skipped)
        if entries:
            raise CheckpointError(
                f"no checkpoint in {self.directory} is usable: {'; '.join(skipped)}. "
                f"Training does not start afresh in silence: {FORCE}"
            )
        if skipped:
            what = "; ".join(skipped)
            _warn(f"skipped in {self.directory}: {what}. No step was ever completed there")
        return None

    def clear(self) -> None:
        """Removes every step, oldest first, once the trained members are stored elsewhere."""
        if not processes.is_first():
            return
        with _storage_errors():
            entries, _ = self._scan()
            for entry in reversed(entries):
                self._discard(entry.name)
            self._sweep()

    @functools.cached_property
    def _checkpointer(self):
        import orbax.checkpoint as ocp

        commit = ocp.path.atomicity.AtomicRenameTemporaryPath
        # Orbax must not wait for other processes: the first one writes alone.
        own = processes.index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process-{own}"
        )
        alone = alone if processes.count() > 1 else ocp.options.MultiprocessingOptions()
        # OCDBT although there is one array: without it Orbax 0.12.8 logs a warning at each save.
        items = ocp.CompositeCheckpointHandler(
            manifest=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
            leaves=ocp.PyTreeCheckpointHandler(use_ocdbt=True, multiprocessing_options=alone),
            composite_options=ocp.CompositeOptions(
                temporary_path_class=commit, multiprocessing_options=alone
            ),
        )
        return ocp.Checkpointer(items, temporary_path_class=commit, multiprocessing_options=alone)

    def _scan(self) -> tuple[list[_Entry], list[str]]:
        """The completed steps, newest first, and "name (reason)" of everything else there."""
        entries, others = [], []
        for name, is_leftover in self._names().items():
            if is_leftover:
                if not name.endswith(".deleted"):
                    others.append(f"{name} (its save was never completed)")
            elif match := re.fullmatch(_STEP, name):
                entries.append(_Entry(int(match[1]), int(match[2] or 0), name))
            elif not name.startswith("."):
                others.append(f"{name} (not a checkpoint of jaxreg)")
        return sorted(entries, reverse=True), others

    def _names(self) -> dict[str, bool]:
        """The folder's names -> whether a killed save or removal left them, in one listing."""
        if self._local:
            folder = self.directory
            names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
            return {name: bool(re.fullmatch(_LEFTOVER, name)) for name in names}
        files = paths.files_below(self.directory)
        names = sorted({file.partition("/")[0] for file in files})
        return {
            name: (
                bool(re.fullmatch(_LEFTOVER, name))
                or (bool(re.fullmatch(_STEP, name)) and f"{name}/{_COMMIT}" not in files)
            )
            for name in names
        }

    def _read(self, entry: _Entry) -> tuple[dict, dict[str, np.ndarray]]:
        """The manifest and the verified leaves of a step; raises `Damaged` if anything is wrong."""
        import orbax.checkpoint as ocp

        as_numpy = {"bytes": ocp.RestoreArgs(restore_type=np.ndarray)}
        items = ocp.args.Composite(
            manifest=ocp.args.JsonRestore(), leaves=ocp.args.PyTreeRestore(restore_args=as_numpy)
        )
        try:
            if self._local:
                restored = self._checkpointer.restore(self.directory / entry.name, args=items)
            else:
                with tempfile.TemporaryDirectory(prefix="jaxreg-") as private:
                    folder = pathlib.Path(private) / entry.name
                    paths.download(self.directory / entry.name, folder)
                    _verify(folder)
                    restored = self._checkpointer.restore(folder, args=items)
            buffer = restored.leaves["bytes"]
            return restored.manifest, leaves.unpack(entry.step, restored.manifest, buffer)
        # An unreachable store is no damage: no older step is used instead.
        except (Damaged, paths.StorageError):
            raise
        except Exception as error:  # a damaged file makes its reader raise any exception
            raise Damaged(_shown(error)) from error

    def _write(self, name: str, manifest: dict, buffer: np.ndarray) -> None:
        import orbax.checkpoint as ocp

        path = self.directory / name
        lease.guard(path)
        items = ocp.args.Composite(
            manifest=ocp.args.JsonSave(manifest),
            leaves=ocp.args.PyTreeSave(
                {"bytes": buffer}, save_args={"bytes": ocp.SaveArgs(chunk_byte_size=leaves.CHUNK)}
            ),
        )
        try:
            if self._local:
                self._checkpointer.save(path, args=items)
                _sync(path)
            else:
                with tempfile.TemporaryDirectory(prefix="jaxreg-") as private:
                    folder = pathlib.Path(private) / name
                    self._checkpointer.save(folder, args=items)
                    # Orbax's own file; ours is written last and has more in it.
                    (folder / _COMMIT).unlink(missing_ok=True)
                    paths.upload(folder, path)
                    commit = digests.canonical_json(_digests(folder))
                    (path / _COMMIT).write_text(commit, encoding="utf-8")
        except Exception as error:
            if not isinstance(error, paths.StorageError):
                self._sweep()  # a full disk needs the space of the half-written step
            what = f"{path} could not be saved, older checkpoints are untouched"
            raise CheckpointError(f"{what}: {_shown(error)}") from error
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
        """Removes a step; a kill half way leaves nothing that looks like one."""
        path, deleted = self.directory / name, self.directory / f"{name}.deleted"
        try:
            if self._local:
                path.rename(deleted)
                deleted.rmtree()
            else:
                lease.guard(path)
                (path / _COMMIT).unlink(missing_ok=True)
                path.rmtree()
        except OSError as error:
            _warn(f"{path} could not be removed: {_shown(error)}")
        self._bad.discard(name)

    def _sweep(self) -> None:
        """Removes the leftovers of killed saves and removals."""
        for name in [name for name, is_leftover in self._names().items() if is_leftover]:
            try:
                (self.directory / name).rmtree()
            except OSError as error:
                _warn(f"{self.directory / name} could not be removed: {_shown(error)}")


def _by_the_first(act: Callable[[], Any]) -> Any:
    """The result of `act` in a job's first process, None elsewhere; its error is raised in all."""
    found, error = None, None
    if processes.is_first():
        try:
            with _storage_errors():
                found = act()
        except Exception as failed:
            error = failed
    failure = processes.agree(None if error is None else str(error))
    if error is not None:
        raise error
    if failure is not None:
        raise CheckpointError(failure)
    return found


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    """Raises an error of the store as CheckpointError."""
    try:
        yield
    except paths.StorageError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from error


def _digests(folder: pathlib.Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _verify(folder: pathlib.Path) -> None:
    """Checks a copied step's files against its commit file, which it then removes."""
    committed = json.loads((folder / _COMMIT).read_text(encoding="utf-8"))
    (folder / _COMMIT).unlink()
    found = _digests(folder)
    every = committed.keys() | found.keys()
    wrong = sorted(name for name in every if committed.get(name) != found.get(name))
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise Damaged(f"file {wrong[0]!r} does not match its digest{more}")


def _sync(path: os.PathLike) -> None:
    """Syncs a new step to the disk: its small files, its folders, its entry in the parent."""
    targets = [os.path.dirname(path)]
    for folder, _, files in os.walk(path):
        targets += [folder, *(os.path.join(folder, file) for file in files)]
    for target in targets:
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _shown(error: BaseException) -> str:
    return one_line(error, MOST_LETTERS)


def _warn(message: str) -> None:
    warnings.warn(message, CheckpointWarning, stacklevel=3)

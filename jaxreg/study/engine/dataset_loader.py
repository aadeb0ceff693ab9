"""The data draws of an experiment, hashed at once and loaded in the background."""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxreg.data import Dataset, Source
from jaxreg.data.cache_directory import cache_directory
from jaxreg.distributed import processes
from jaxreg.errors import UserErrors
from jaxreg.study.design import dataset_checks
from jaxreg.study.design.components import SOURCES


class Library(Mapping):
    """Data sets by content hash, each loaded once, in the background, in the order of requests.

    alone: the other processes of a job request no more data, so that none waits for another.
    """

    alone = False

    def __init__(self, cache_dir: Path | None = None):
        self._cache_dir = cache_dir or cache_directory()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._futures: dict[str, Future[Dataset]] = {}

    def request(self, settings: Mapping, seed: int) -> str:
        """The content hash of a draw, which starts to load. settings: the config's data section."""
        key = content_hash(settings, seed)
        source, own = _source_of(settings)
        # Here, not in the thread: while TFDS is imported, it replaces the import of every thread by
        # a lazy one.
        from jaxreg.data import cache  # noqa: F401

        if key not in self._futures:
            self._futures[key] = self._pool.submit(
                _in_turn, key, lambda: _load(source, seed, self._cache_dir, own), self.alone
            )
        return key

    def __getitem__(self, key: str) -> Dataset:
        return self._futures[key].result()

    def __iter__(self):
        return iter(self._futures)

    def __len__(self) -> int:
        return len(self._futures)

    def close(self) -> None:
        """Cancels loads not yet started and waits for the others: a cut draw would look damaged."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def content_hash(settings: Mapping, seed: int) -> str:
    """The content hash of a draw; nothing is loaded. settings: the config's data section."""
    source, own = _source_of(settings)
    return _content_hash(source, tuple(own.items()), seed)


@functools.lru_cache(maxsize=10_000)  # most arms of a seed share its data
def _content_hash(source: Source, settings: tuple[tuple[str, Any], ...], seed: int) -> str:
    return source.content_hash(source.settings(seed=seed, **dict(settings)))


def _source_of(settings: Mapping) -> tuple[Source, dict[str, Any]]:
    """(the source of a config's data section, its own settings)."""
    own = {name: value for name, value in settings.items() if name != "dataset"}
    return SOURCES[settings["dataset"]], own


def _in_turn(key: str, load: Callable[[], Dataset], alone: bool) -> Dataset:
    """What `load` returns; in a job, process 0 writes the files first and the others read them."""
    if alone:
        return load()
    if not processes.is_first():
        processes.barrier(f"data/{key}")
        return load()
    try:
        return load()
    finally:
        processes.barrier(f"data/{key}")


def _load(source: Source, seed: int, cache_dir: Path, settings: Mapping) -> Dataset:
    """A draw, checked against its legend.

    Raises:
      UserErrors: it cannot be drawn or written, or does not match its legend (a
        person's own data set).
    """
    from jaxreg.data.cache import CacheError

    try:
        dataset = source.load(seed=seed, cache_dir=cache_dir, **settings)
    except ValueError as error:  # by the contract of a source: one line per mistake
        raise UserErrors([f"seed {seed}: {line}" for line in str(error).splitlines()]) from error
    except CacheError as error:
        raise UserErrors([str(error)]) from error
    found = dataset_checks.mistakes(dataset, settings["length"])
    if found:
        raise UserErrors([f"seed {seed}: {line}" for line in found])
    return dataset

"""The draws of data that an experiment needs: hashed at once, loaded in the background while programs compile."""

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from jaxreg.data import Dataset
from jaxreg.study.pieces import SOURCES


def cache_directory() -> Path:
    """Where data sets are kept: $JAXREG_DATA, else ~/.cache/jaxreg/data."""
    return Path(os.environ.get("JAXREG_DATA", "~/.cache/jaxreg/data")).expanduser()


class Library(Mapping):
    """Data sets by content hash; each is loaded once, in the background, in the order in which they were asked for."""

    def __init__(self, cache_dir: Path | None = None):
        self._cache_dir = cache_dir or cache_directory()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._futures: dict[str, Future[Dataset]] = {}

    def request(self, settings: Mapping, seed: int) -> str:
        """The content hash of a draw, which starts to load. settings: the config's data section."""
        source, own = SOURCES[settings["dataset"]], {key: value for key, value in settings.items() if key != "dataset"}
        key = source.content_hash(source.settings(seed=seed, **own))
        if key not in self._futures:
            self._futures[key] = self._pool.submit(source.load, seed=seed, cache_dir=self._cache_dir, **own)
        return key

    def __getitem__(self, key: str) -> Dataset:
        return self._futures[key].result()

    def __iter__(self):
        return iter(self._futures)

    def __len__(self) -> int:
        return len(self._futures)

    def close(self) -> None:
        """Drops what has not started to load."""
        self._pool.shutdown(wait=False, cancel_futures=True)

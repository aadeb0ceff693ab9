"""One small CATSAT for the whole folder."""

import pytest

from jaxreg.data.catsat.source import load as load_catsat


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def dataset(cache_dir):
    return load_catsat(seed=7, cache_dir=cache_dir)

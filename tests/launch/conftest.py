"""A place to launch from, for a test or a whole file; what is left in its cloud is deleted."""

import pytest

from tests.helpers.launch_place import Place


@pytest.fixture
def place(tmp_path) -> Place:
    made = Place(tmp_path)
    yield made
    for name in made.cloud.nodes():
        made.cloud.delete(name)


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory) -> Place:
    made = Place(tmp_path_factory.mktemp("launch"))
    yield made
    for name in made.cloud.nodes():
        made.cloud.delete(name)

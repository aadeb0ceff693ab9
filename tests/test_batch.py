"""The legend of a batch has every key that the code reads, and the arrays are as it says."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxreg.batch import Batch, NextTokenBatch
from jaxreg.data import SOURCES
from jaxreg.study.engine import program
from tests.helpers import tiny

PACKAGE = Path(program.__file__).parents[2]
KEYS = set(Batch.__annotations__)
EXTENTS = {"": 0, "b": 1, "b t": 2, "b c": 2, "b t f": 3, "b v": 2, "b v t": 3}


def test_every_key_that_the_code_reads_stands_in_the_legend():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        code = re.sub(r"^ *(>>>|\.\.\.).*$", "", path.read_text(encoding="utf-8"), flags=re.M)
        found |= set(re.findall(r'\bbatch\["(\w+)"\]', code))  # examples have batches of their own
    assert len(found) > 8 and found <= KEYS, found - KEYS


@pytest.mark.parametrize("name", SOURCES)
def test_the_arrays_of_every_data_set_are_as_the_legend_says(name):
    source = SOURCES[name]
    dataset = source.preview(**{**source.defaults(), "num_eval": 16})
    needs = tuple(f"variants:{kind}" for kind in source.rewritings)
    scored = [program.pass_batch(dataset, view.split, view.cut) for view in dataset.views]
    for batch in (program.train_batch(dataset, needs), *scored):
        legend = Batch if source.answers == "query" else NextTokenBatch
        asked = {"query_position"} if source.answers == "query" else set()
        assert {"tokens", "label", *asked} <= set(batch) <= set(legend.__annotations__)
        for key, array in batch.items():
            annotation = legend.__annotations__[key]
            assert array.ndim == EXTENTS[annotation.dim_str.strip()], key
            wanted = np.floating if annotation.__name__.startswith("Float") else np.integer
            assert np.issubdtype(array.dtype, wanted), key


def test_it_serves_the_programs():
    assert set(program.train_batch(tiny.dataset(1), ())) <= KEYS

"""Loading CATSAT: what stands in the data set, per-seed determinism, and light imports."""

import subprocess
import sys

import numpy as np
import pytest

from jaxreg.data import SOURCES
from jaxreg.data.catsat import source as catsat
from jaxreg.data.catsat.source import load as load_catsat

SMALL = {"num_train": 8, "num_eval": 8}


def test_the_words_of_the_essay_are_known(dataset):
    words = {"cat", "cats", "dog", "journey", "SIT", "on", "mat", "the", "a", "my", "our", "your"}
    assert words <= set(dataset.tokens) and {"sits", "sit"} <= set(dataset.outputs)
    assert len(set(dataset.tokens)) == len(dataset.tokens) and dataset.tokens[0] == "<pad>"
    assert len(set(dataset.outputs)) == len(dataset.outputs) == 24


def test_views_are_those_of_the_specification(dataset):
    assert [view.name for view in dataset.views] == [
        "train",
        "validation",
        "recombination",
        "recombination_neutral",
        "template",
        "template_two_adjectives",
        "template_adjective_adverb",
        "template_adverb_object",
        "attractor",
        "attractor_congruent",
        "fronted",
        "novel_word",
        "novel_word_neutral",
        "informative",
        "noun_cut",
        "determiner_cut",
        "both_cut",
        "both_cut_plain",
    ]
    assert all(dataset.view_weights(view).any() for view in dataset.views)
    cuts = {view.name: view.cut for view in dataset.views if view.cut}
    assert cuts == {
        "noun_cut": ("noun",),
        "determiner_cut": ("determiner",),
        "both_cut": ("noun", "determiner"),
        "both_cut_plain": ("noun", "determiner"),
    }
    assert [view.name for view in dataset.views if view.fresh] == [
        "novel_word",
        "novel_word_neutral",
    ]


def test_fresh_tokens_are_the_nonce_words(dataset):
    assert len(dataset.fresh_tokens) == 32 and len(dataset.fresh_like) == 24
    assert {dataset.tokens[token] for token in dataset.fresh_like} >= {"cat", "cats", "journeys"}
    assert not np.isin(dataset.fresh_tokens, dataset.splits["train"].tokens).any()


@pytest.mark.parametrize(
    "neutral_rate, missing",
    [
        (0.0, {"recombination_neutral"}),
        (1.0, {"informative", "noun_cut", "determiner_cut", "both_cut"}),
    ],
)
def test_views_without_rows_are_left_out(cache_dir, neutral_rate, missing):
    dataset = load_catsat(seed=1, cache_dir=cache_dir, neutral_rate=neutral_rate, **SMALL)
    assert set(catsat.VIEW_NAMES) - {view.name for view in dataset.views} == missing


def test_a_seed_is_a_data_set(dataset, cache_dir, tmp_path):
    again = load_catsat(seed=7, cache_dir=tmp_path)  # made anew, not read
    other = SOURCES["catsat"].load(seed=8, cache_dir=cache_dir)
    assert again.content_hash == dataset.content_hash != other.content_hash
    for name in catsat.SPLITS:
        np.testing.assert_array_equal(again.splits[name].tokens, dataset.splits[name].tokens)
        np.testing.assert_array_equal(again.splits[name].label, dataset.splits[name].label)
        assert (other.splits[name].tokens != dataset.splits[name].tokens).any()


def test_the_content_hash_is_known_without_loading(dataset):
    source = SOURCES["catsat"]
    assert source.content_hash(source.settings(seed=7)) == dataset.content_hash


def test_importing_is_light():
    script = (
        "import sys, jaxreg.data; print(*{'jax', 'tensorflow_datasets', 'tensorflow'} &"
        " set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        == "\n"
    )

"""Views, readable rows and the check that splits are disjoint."""

import dataclasses

import numpy as np
import pytest

from jaxreg.data import LeakError, View
from jaxreg.data.dataset import PAD


def with_row(dataset, target, source, shift=0):
    """The data set with row 0 of `target` replaced by row 0 of `source`, moved by `shift`
    positions.
    """
    fields = {}
    for name, array in dataset.splits[target].arrays().items():
        fields[name] = array.copy()
        fields[name][0] = getattr(dataset.splits[source], name)[0]
    fields["tokens"][0] = np.roll(fields["tokens"][0], shift)
    split = dataclasses.replace(dataset.splits[target], **fields)
    return dataclasses.replace(dataset, splits={**dataset.splits, target: split})


@pytest.mark.parametrize("shift", [0, 1])
def test_a_shared_sentence_is_found_wherever_it_starts(dataset, shift):
    dataset.check_disjoint()
    leaky = with_row(dataset, "fronted", "train", shift)
    with pytest.raises(LeakError) as leak:
        leaky.check_disjoint()
    assert "train and fronted" in str(leak.value) and dataset.sentence("train", 0) in str(
        leak.value
    )


def test_the_same_words_with_another_answer_are_no_leak(dataset):
    leaky = with_row(dataset, "fronted", "train")
    leaky.splits["fronted"].label[0] ^= 1
    leaky.check_disjoint()


def test_weights_of_subsets(dataset):
    split = dataset.splits["recombination"]
    weights = {view.name: dataset.view_weights(view) for view in dataset.views}
    assert weights["recombination"].dtype == np.float32 and weights["recombination"].sum() == len(
        split
    )
    np.testing.assert_array_equal(weights["recombination_neutral"], split.tags[:, 0])
    np.testing.assert_array_equal(weights["noun_cut"], split.tags[:, 1])
    frames = [
        weights[f"template_{name}"]
        for name in ("two_adjectives", "adjective_adverb", "adverb_object")
    ]
    np.testing.assert_array_equal(sum(frames), 1)
    named = dataset.templates.index("adverb_object")
    np.testing.assert_array_equal(frames[2], dataset.splits["template"].template == named)


@pytest.mark.parametrize("subset", ["nonsense", "template:nonsense"])
def test_an_unknown_subset_is_an_error(dataset, subset):
    with pytest.raises(ValueError, match="nonsense"):
        dataset.view_weights(View("v", "v", "train", subset=subset))


def test_sentences_are_readable(dataset):
    row = dataset.splits["train"].tokens[0]
    words = dataset.sentence("train", 0).split()
    assert words == [dataset.tokens[token] for token in row if token != PAD]
    assert any(word.isupper() for word in words)

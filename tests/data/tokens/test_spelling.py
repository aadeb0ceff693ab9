"""Tokens of bytes are shown as text, and what is no text is seen."""

import pytest

from jaxreg.data import SOURCES
from jaxreg.data.tokens.encode import alphabet_of, bytes_alphabet
from jaxreg.data.tokens.spelling import Spelling, are_bytes, spelled
from jaxreg.study.analysis import summary_text


def tokens_of(text: bytes):
    shown = bytes_alphabet().tokens
    return [shown[byte] for byte in text]


def test_bytes_are_their_text():
    text = "Där står: „3 < 4“,\n\tund <end>."
    assert spelled(tokens_of(text.encode())) == text
    assert spelled([*tokens_of(b"a"), "<end>", *tokens_of(b"b")]) == "a<end>b"


def test_what_is_no_text_is_written_out():
    cut = "für".encode()[:2]
    assert spelled(tokens_of(cut)) == r"f\xc3"
    assert spelled(tokens_of(b"\x00\xffa\r\nb\x1b[2J")) == "\\x00\\xffa\nb\\x1b[2J"


def test_only_a_vocabulary_of_bytes_is_one():
    assert are_bytes(("<pad>", *bytes_alphabet().tokens))
    assert not are_bytes(("<pad>", *map(str, range(300)))) and not are_bytes(("<pad>", "a"))


def test_passages_of_a_text_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path / "kept"))
    path = tmp_path / "my.txt"
    path.write_text("\n\n".join(f"the same words and {n}" for n in range(10)))
    dataset = SOURCES["tokens"].preview(path=str(path), length=20, num_train=2, num_eval=1)
    for _, trained, asked in summary_text.view_examples(dataset):
        assert "he same word" in trained + asked and "t h e" not in trained + asked


def test_labelled_texts_of_bytes_can_be_read_and_other_sentences_stay():
    dataset = SOURCES["labelled_text"].preview()
    text = summary_text.sentence(dataset, "train", 0)
    assert text.endswith("<end>") and len(text.split()[0]) > 1
    dataset = SOURCES["catsat"].preview()
    assert summary_text.sentence(dataset, "train", 0) == dataset.sentence("train", 0)


def test_a_text_becomes_the_ids_of_its_bytes_and_back():
    spelling = Spelling.of(("<pad>", *bytes_alphabet().tokens))
    ids = spelling.encode("é a")
    assert spelling.kind == "bytes" and ids.tolist() == [0xC3 + 1, 0xA9 + 1, 33, 98]
    assert spelling.decode(ids) == "é a" and spelling.decode(ids[:1]) == "\ufffd"
    names = [spelling.name(number + 1) for number in (10, 32, 65, 0xC3, 27, 256)]
    assert names == [r"'\n'", "' '", "'A'", "<0xc3>", "<0x1b>", "<end>"]


@pytest.mark.parametrize(
    "tokens, kind, text, ids, back",
    [
        ("012", "ids", "2 0", [3, 1], "2 0"),
        (("the", "cat"), "words", "The cat", [1, 2], "the cat"),
        ("ab ", "characters", "b a", [2, 3, 1], "b a"),
    ],
)
def test_other_vocabularies_are_numbers_words_or_characters(tokens, kind, text, ids, back):
    spelling = Spelling.of(("<pad>", *tokens))
    assert spelling.kind == kind and spelling.encode(text).tolist() == ids
    assert spelling.decode(ids) == back
    assert spelling.name(1) == (tokens[0] if kind == "ids" else repr(tokens[0]))
    with pytest.raises(ValueError, match=r"'9z' is no|'z' is no|'9' is no"):
        spelling.encode("9z")
    with pytest.raises(ValueError, match="has no token"):
        spelling.encode("")


def test_a_tokenizer_encodes_and_decodes(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="of the extra jaxreg[tokenizers]")
    words = {"<unk>": 0, "the": 1, "cat": 2, "sat": 3}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "words.json"))
    alphabet = alphabet_of(str(tmp_path / "words.json"))
    spelling = Spelling.of(("<pad>", *alphabet.tokens), str(tmp_path / "words.json"))
    ids = spelling.encode("the cat sat")
    assert spelling.kind == "tokenizer" and ids.tolist() == [2, 3, 4]
    assert spelling.decode(ids) == "the cat sat" and spelling.name(3) == "'cat'"
    end = len(alphabet.tokens)
    assert spelling.decode([2, end, 3]) == "the<end>cat"

"""Tokens of bytes are shown as text, and what is no text is seen."""

from jaxreg.data import SOURCES
from jaxreg.data.tokens.encode import bytes_alphabet
from jaxreg.data.tokens.spelling import are_bytes, spelled
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

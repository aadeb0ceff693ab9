"""What is kept beside the data sets: whole, or read again; and a file that two processes write."""

import os

import numpy as np
import pytest

from jaxreg.data import kept

FOUND = {"ends": np.arange(5), "digests": np.ones((2, 2), np.uint64), "shape": [3, 4], "name": "x"}


def test_what_is_kept_comes_back_and_what_is_damaged_does_not(tmp_path):
    key = kept.key(1, files=["a"], how={"b": 2})
    assert kept.read(tmp_path, key) is None
    kept.write(tmp_path, key, FOUND)
    back = kept.read(tmp_path, key)
    assert back is not None and set(back) == set(FOUND)
    for name in ("ends", "digests"):
        np.testing.assert_array_equal(back[name], FOUND[name])
    assert back["shape"] == [3, 4] and back["name"] == "x"
    file = tmp_path / f"{key}.npz"
    content = bytearray(file.read_bytes())
    content[content.index(np.arange(5).tobytes()) + 8] ^= 1
    file.write_bytes(content)
    assert kept.read(tmp_path, key) is None
    assert kept.key(2, files=["a"], how={"b": 2}) != key


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_another_process_wrote_meanwhile_stays_where_it_is_the_same(
    tmp_path, monkeypatch, links
):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    for other, is_same in ((b"1234", True), (b"12345", False), (b"1235", False), (None, False)):
        target = tmp_path / f"{other}.numbers"
        with kept.new_file(target, replaces=False) as file:
            file.write(b"1234")
            if other is not None:
                target.write_bytes(other)
                before = target.stat().st_ino
        assert target.read_bytes() == b"1234"
        if other is not None:
            assert (target.stat().st_ino == before) == (is_same and links)
    assert len(list(tmp_path.iterdir())) == 4, "nothing is left behind"


def test_after_an_exception_what_was_there_is_there(tmp_path):
    target = tmp_path / "x.numbers"
    target.write_bytes(b"old")
    for replaces in (True, False):
        with pytest.raises(KeyError), kept.new_file(target, replaces=replaces) as file:
            file.write(b"new")
            raise KeyError
        assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1

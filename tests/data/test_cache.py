"""The files: cached, safe among processes, and never believed when damaged."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from jaxreg.data import cache
from jaxreg.data.catsat.source import SOURCE
from jaxreg.data.catsat.splits import SPLITS, Settings, draw_splits

SETTINGS = Settings(seed=3, num_train=4, num_eval=4)


def folder(cache_dir):
    (found,) = (cache_dir / "catsat").glob("[0-9a-f]*")
    return found / "1.0.0"


def test_what_is_read_is_what_was_drawn(tmp_path):
    drawn, loaded = draw_splits(SETTINGS), cache.load(SOURCE, SETTINGS, tmp_path)
    assert tuple(loaded) == SPLITS
    for name in SPLITS:
        for field, array in loaded[name].arrays().items():
            np.testing.assert_array_equal(array, vars(drawn[name])[field])
            assert array.dtype == vars(drawn[name])[field].dtype and not array.flags.writeable
    assert folder(tmp_path).parent.name == SETTINGS.content_hash()[:16]
    assert len(list((tmp_path / "catsat").iterdir())) == 1  # nothing left over


def test_the_second_load_prepares_nothing(tmp_path, monkeypatch):
    first = cache.load(SOURCE, SETTINGS, tmp_path)
    monkeypatch.setattr(cache, "prepare", None)
    np.testing.assert_array_equal(
        cache.load(SOURCE, SETTINGS, tmp_path)["train"].tokens, first["train"].tokens
    )


def test_other_settings_have_other_files(tmp_path):
    cache.load(SOURCE, SETTINGS, tmp_path)
    cache.load(SOURCE, Settings(seed=4, num_train=4, num_eval=4), tmp_path)
    assert len(list((tmp_path / "catsat").iterdir())) == 2


def test_nothing_is_printed(tmp_path, capfd):
    cache.load(SOURCE, SETTINGS, tmp_path)
    assert capfd.readouterr() == ("", "")


def _truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def _flip(path):
    data = bytearray(path.read_bytes())
    used = [place for place, byte in enumerate(data) if byte]
    data[used[len(used) // 2]] ^= 4
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), lambda path: path.write_bytes(b""), _truncate, _flip],
    ids=["missing", "empty", "truncated", "flipped"],
)
@pytest.mark.parametrize(
    "name", ["catsat-train.array_record-00000-of-00001", "dataset_info.json", "metadata.json"]
)
def test_damaged_files_are_noticed_and_made_anew(tmp_path, name, damage):
    good = cache.load(SOURCE, SETTINGS, tmp_path)
    damage(folder(tmp_path) / name)
    with pytest.warns(cache.DataWarning, match="is damaged and is made anew"):
        loaded = cache.load(SOURCE, SETTINGS, tmp_path)
    np.testing.assert_array_equal(loaded["train"].tokens, good["train"].tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.load(SOURCE, SETTINGS, tmp_path)


def test_files_of_other_settings_are_not_believed(tmp_path):
    other = Settings(seed=4, num_train=4, num_eval=4)
    cache.load(SOURCE, SETTINGS, tmp_path)
    folder(tmp_path).parent.rename(tmp_path / "catsat" / other.content_hash()[:16])
    with pytest.raises(ValueError, match="other settings"):
        cache.read(SOURCE, other, tmp_path)
    np.testing.assert_array_equal(
        cache.load(SOURCE, other, tmp_path)["train"].tokens, draw_splits(other)["train"].tokens
    )


def test_a_bucket_is_refused():
    with pytest.raises(ValueError, match="local folder"):
        cache.load(SOURCE, SETTINGS, "gs://bucket/data")


@pytest.mark.system
def test_four_processes_prepare_at_once(tmp_path):
    script = (
        "import sys; from jaxreg.data import cache; from jaxreg.data.catsat.source import SOURCE,"
        " Settings;"
        "sys.stdin.readline();"  # imported: wait for the start
        "[print(cache._digest(cache.load(SOURCE, Settings(seed=s, num_train=4, num_eval=4),"
        " sys.argv[1])))"
        " for s in range(4)]"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, done
    expected = [
        cache._digest(draw_splits(Settings(seed=seed, num_train=4, num_eval=4)))
        for seed in range(4)
    ]
    assert all(out.split() == expected and not err for out, err in done), done
    assert (
        len(list((tmp_path / "catsat").iterdir())) == 4
    )  # one folder per seed, no private one left

"""Trained members are found again, whole, or not at all."""

import pathlib
import subprocess
import sys
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest

import jaxreg
from jaxreg.store import code_version, member_store

HASH = "0123456789abcdef01234567"
ARRAYS = {
    "params/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "count": np.int32(7),
    "low": np.ones(3, ml_dtypes.bfloat16),
    "empty": np.zeros((0, 2), bool),
}
META = {"step": 400, "accuracy": {"train": 0.1 + 0.2}, "diverged": False}


def same(found: dict, wanted: dict) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype
        and found[name].shape == wanted[name].shape
        and np.array_equal(found[name], wanted[name])
        for name in wanted
    )


def test_put_and_get(tmp_path):
    store = member_store.Records(tmp_path / "records")
    assert HASH not in store and store.get(HASH) is None
    store.put(HASH, ARRAYS, META)
    found = store.get(HASH)
    assert HASH in store and same(found.arrays, ARRAYS) and found.meta == META
    assert "params/kernel" in np.load(tmp_path / "records" / f"{HASH}.npz", allow_pickle=False)


def test_bytes_are_a_function_of_the_content(tmp_path):
    one, two = member_store.Records(tmp_path / "1"), member_store.Records(tmp_path / "2")
    one.put(HASH, ARRAYS, META | {"by_step": {2: "b", 10: "a"}})
    reordered = {name: np.asarray(ARRAYS[name], order="F") for name in reversed(ARRAYS)}
    reordered["count"] = np.asarray(7, ">i4")
    two.put(HASH, reordered, {"by_step": {10: "a", 2: "b"}} | dict(reversed(META.items())))
    assert (tmp_path / "1" / f"{HASH}.npz").read_bytes() == (
        tmp_path / "2" / f"{HASH}.npz"
    ).read_bytes()
    assert same(two.get(HASH).arrays, ARRAYS)


def test_any_damage_counts_as_absent(tmp_path):
    store = member_store.Records(tmp_path)
    store.put(HASH, ARRAYS, META)
    path = tmp_path / f"{HASH}.npz"
    good = path.read_bytes()
    generator = np.random.default_rng(0)
    damaged = 0
    for position in generator.integers(0, len(good), 150):
        flipped = bytearray(good)
        flipped[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(flipped)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = store.get(HASH)
        if (
            found is None
        ):  # a bit of the archive's padding, times or duplicated sizes may change nothing
            damaged += 1
            assert caught[0].category is member_store.RecordWarning and str(path) in str(
                caught[0].message
            )
        else:
            assert same(found.arrays, ARRAYS) and found.meta == META
    assert damaged > 75
    for content in (b"", good[:100], good[:-30], good + b"half"):
        path.write_bytes(content)
        if content != good + b"half":
            with pytest.warns(member_store.RecordWarning, match="counts as absent"):
                assert HASH not in store
    store.put(HASH, ARRAYS, META)
    assert path.read_bytes() == good


def test_a_record_that_unpacks_to_more_than_it_holds_is_damaged(tmp_path):
    store = member_store.Records(tmp_path)
    store.put(HASH, ARRAYS, META)
    path = tmp_path / f"{HASH}.npz"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.warns(member_store.RecordWarning, match="is compressed"):
        assert store.get(HASH) is None


def test_a_renamed_record_is_not_another(tmp_path):
    store = member_store.Records(tmp_path)
    store.put(HASH, ARRAYS, META)
    other = HASH[::-1]
    (tmp_path / f"{HASH}.npz").rename(tmp_path / f"{other}.npz")
    with pytest.warns(member_store.RecordWarning, match=HASH):
        assert store.get(other) is None


def test_neighbours_are_searched_and_copied(tmp_path):
    member_store.Records(tmp_path / "b").put(HASH, ARRAYS, META)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"{HASH}.npz").write_bytes(b"bad")
    store = member_store.Records(
        tmp_path / "own", search=(tmp_path / "absent", tmp_path / "a", tmp_path / "b")
    )
    with pytest.warns(member_store.RecordWarning):
        assert same(store.get(HASH).arrays, ARRAYS)
    assert same(member_store.Records(tmp_path / "own").get(HASH).arrays, ARRAYS)


def test_a_damaged_own_record_is_replaced_by_a_neighbours(tmp_path):
    member_store.Records(tmp_path / "b").put(HASH, ARRAYS, META)
    store = member_store.Records(tmp_path / "own", search=(tmp_path / "b",))
    store.put(HASH, ARRAYS, META)
    (tmp_path / "own" / f"{HASH}.npz").write_bytes(b"")
    with pytest.warns(member_store.RecordWarning):
        assert store.get(HASH).meta == META
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(HASH).meta == META


@pytest.mark.parametrize("hash", ["../../etc", "", "XYZ", HASH + "/a"])
def test_hashes_are_no_paths(tmp_path, hash):
    with pytest.raises(ValueError, match="not a hash"):
        member_store.Records(tmp_path).put(hash, {}, {})


def test_objects_are_refused(tmp_path):
    with pytest.raises(TypeError):
        member_store.Records(tmp_path / "r").put(HASH, {"a": np.array([{}])}, {})
    with pytest.raises(TypeError):
        member_store.Records(tmp_path / "r").put(HASH, {}, {"a": object()})
    assert not (tmp_path / "r").exists()


def test_content_hash():
    assert member_store.content_hash({"a": 1, "b": (2, 3)}) == member_store.content_hash(
        {"b": [2, 3], "a": 1}
    )
    assert member_store.content_hash({"a": 1}) != member_store.content_hash({"a": 2})
    # A change of this value makes every stored member stale.
    assert member_store.content_hash({"a": 1}) == "015abd7f5cc57a2dd94b7590"
    with pytest.raises(TypeError):
        member_store.content_hash({"a": np.zeros(2)})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a few files, of which `code_version` speaks."""
    package = tmp_path / "jaxreg"
    texts = {
        "study/engine/program.py": "import jaxreg.nn.blocks, jaxreg.study.design.components\n",
        "study/design/__init__.py": "",
        "study/design/components.py": "from jaxreg.reg import cut\n",
        "reg/__init__.py": "",
        "reg/cut.py": "",
        "study/__init__.py": "",
        "study/report.py": "from jaxreg.study.engine import program\n",
        "train/loop.py": "import jaxreg.rng\nfrom jaxreg.store import disk\n",
        "store/disk.py": "",
        "nn/__init__.py": "",
        "nn/blocks.py": "def block(x):\n    from jaxreg import optim\n\n    return x + 1\n",
        "nn/unused.py": "",
        "optim.py": "",
        "rng.py": "",
    }
    for name, text in texts.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(code_version, "__file__", str(package / "store" / "code_version.py"))
    code_version.code_version.cache_clear()
    yield package
    code_version.code_version.cache_clear()


def version() -> str:
    code_version.code_version.cache_clear()
    return code_version.code_version()


def test_the_deciding_sources_are_what_the_roots_import(package):
    assert set(code_version.deciding_sources()) == {
        "study/engine/program.py",
        "study/__init__.py",
        "study/design/__init__.py",
        "reg/__init__.py",
        "reg/cut.py",
        "train/loop.py",
        "nn/__init__.py",
        "nn/blocks.py",
        "optim.py",
        "rng.py",
    }


def test_code_version_follows_the_deciding_sources_only(package):
    first = version()
    for name in ("study/report.py", "store/disk.py", "nn/unused.py", "study/design/components.py"):
        (package / name).write_text((package / name).read_text() + "changed = 1")
    (package / "nn" / "notes.txt").write_text("no source")
    assert version() == first
    seen = {first}
    for name in ("nn/blocks.py", "optim.py", "rng.py", "train/loop.py", "nn/__init__.py"):
        (package / name).write_text((package / name).read_text() + "changed = 1")
        seen.add(version())
    assert len(seen) == 6


def test_formatting_comments_and_docstrings_make_nothing_stale(package):
    first = version()
    (package / "nn" / "blocks.py").write_bytes(
        b'"""Blocks."""\r\n# words\r\ndef block( x ):\r\n    """One more."""\r\n'
        b"    from jaxreg import (optim)\r\n    return ((x) + 1)  # more\r\n"
    )
    assert version() == first
    (package / "nn" / "blocks.py").write_text(
        "def block(x):\n    from jaxreg import optim\n\n    return x + 1.0\n"
    )
    assert version() != first


def test_every_source_that_making_a_program_loads_decides_or_is_named_as_not_deciding():
    """The graph of imports is read off the sources; this is what Python really loads."""
    script = (
        "import sys, jaxreg.study.engine.program, jaxreg.train.loop\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('jaxreg.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    package = pathlib.Path(jaxreg.__file__).parent
    loaded = {pathlib.Path(file).relative_to(package).as_posix() for file in done.stdout.split()}
    unknown = loaded - set(code_version.deciding_sources())
    assert len(loaded) > 50
    assert all(name.startswith(code_version.NOT_DECIDING) for name in unknown), unknown


def test_what_makes_numbers_decides_and_what_stores_them_does_not():
    found = set(code_version.deciding_sources())
    package = pathlib.Path(jaxreg.__file__).parent
    whole = ("nn", "reg", "train", "attention/blockwise")
    expected = {
        path.relative_to(package).as_posix()
        for part in whole
        for path in (package / part).glob("*.py")
    }
    files = ("rng.py", "losses.py", "metrics.py", "optim.py", "attention/masks.py")
    files += ("study/design/model_section.py",)
    engine = ("objective.py", "diagnostics.py", "program.py")
    probes = ("capture.py", "drift.py", "forward.py", "layers.py", "normalization.py")
    expected |= {*files, "data/batches.py", "data/catsat/splits.py"}
    expected |= {f"study/engine/{name}" for name in engine} | {f"probe/{name}" for name in probes}
    assert expected <= found
    assert not any(name.startswith(code_version.NOT_DECIDING) for name in found)
    roots = {name.split("/")[0] for name in code_version.NOT_DECIDING}
    assert all((package / root).exists() for root in roots)


def test_flatten_and_back():
    tree = {"b": {"kernel": np.ones(2), "inner": {"bias": np.zeros(1)}}, "a": np.int32(3)}
    flat = member_store.flatten(tree)
    assert list(flat) == ["a", "b/inner/bias", "b/kernel"]
    back = member_store.unflatten(flat)
    assert back.keys() == tree.keys() and same(member_store.flatten(back), flat)


@pytest.mark.parametrize(
    "tree, error",
    [({"a/b": 1}, ValueError), ({"": 1}, ValueError), ({"a": {}}, ValueError), ({1: 2}, TypeError)],
)
def test_flatten_refuses_what_cannot_come_back(tree, error):
    with pytest.raises(error):
        member_store.flatten(tree)


def test_unflatten_refuses_a_path_through_an_array():
    for flat in ({"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}):
        with pytest.raises(ValueError):
            member_store.unflatten(flat)

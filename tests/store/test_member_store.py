"""Trained members are found again, whole, or not at all."""

import pathlib
import re
import warnings

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


def test_code_version_follows_the_deciding_sources_only(tmp_path, monkeypatch):
    package = tmp_path / "jaxreg"
    for name in (
        "train/loop.py",
        "nn/blocks.py",
        "study/engine/program.py",
        "study/report.py",
        "cli/main.py",
        "rng.py",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(f"# {name}\n")
    monkeypatch.setattr(code_version, "__file__", str(package / "store" / "code_version.py"))

    def version() -> str:
        code_version.code_version.cache_clear()
        return code_version.code_version()

    first = version()
    for name in ("study/report.py", "cli/main.py"):
        (package / name).write_text("changed")
    (package / "nn" / "notes.txt").write_text("no source")
    (package / "nn" / "blocks.py").write_bytes(b"# nn/blocks.py\r\n")
    assert version() == first
    seen = {first}
    for name in ("nn/blocks.py", "study/engine/program.py", "rng.py", "train/loop.py"):
        (package / name).write_text("changed")
        seen.add(version())
    (package / "nn" / "blocks.py").rename(package / "nn" / "block.py")
    seen.add(version())
    assert len(seen) == 6
    code_version.code_version.cache_clear()


def test_every_part_of_the_package_is_known_to_decide_or_not():
    package = pathlib.Path(jaxreg.__file__).parent
    not_deciding = {
        "cli",
        "distributed",
        "errors.py",
        "launch",
        "store",
        "study",
        "probe",
        "__init__.py",
    }  # of study and probe some files decide
    parts = {
        path.name
        for path in package.iterdir()
        if (path.suffix == ".py" or path.is_dir()) and path.name != "__pycache__"
    }
    assert parts - not_deciding <= set(code_version.DECIDING)
    assert all((package / name).exists() for name in code_version.DECIDING)


def test_what_training_loads_of_study_and_probe_decides():
    package = pathlib.Path(jaxreg.__file__).parent
    todo, seen = ["study/engine/program.py"], set()
    while todo:
        name = todo.pop()
        seen.add(name)
        for module in re.findall(
            r"^from jaxreg\.(probe|study)(?:\.(\w+))? import ([\w, ]+)",
            (package / name).read_text(),
            re.MULTILINE,
        ):
            names = [module[1]] if module[1] else [each.strip() for each in module[2].split(",")]
            todo += [
                path
                for path in (f"{module[0]}/{each}.py" for each in names)
                if (package / path).exists() and path not in seen
            ]
    choices = {
        "study/design/components.py",
        "study/design/regularizers.py",
    }  # say what there is; what is chosen stands in the config
    assert seen - choices <= set(code_version.DECIDING)


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

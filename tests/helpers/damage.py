"""What can happen to a run: each function does it to a `Scene`, before the real command."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.helpers.place import Run


@dataclasses.dataclass
class Scene:
    """One run directory and the command that is about to be given.

    Attributes:
      run: the directory. words: the command. environment: variables besides those of the place.
      largest_file: a limit that needs no mount. after: called in the end, such as an unmount.
      repair: takes away what stands in the way, so that the same command can go on.
      says: parts of the message that name what was damaged.
    """

    run: Run
    words: list[str]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    largest_file: int | None = None
    after: list[Callable[[], None]] = dataclasses.field(default_factory=list)
    repair: Callable[[], None] | None = None
    says: list[str] = dataclasses.field(default_factory=list)

    @property
    def dir(self) -> Path:
        """The run directory."""
        return self.run.workdir

    def steps(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(
            path
            for path in (self.dir / "checkpoints").iterdir()
            if path.name.replace("-", "").isdigit()
        )


def flip(path: Path) -> None:
    """Flips one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    """Takes the second half away."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def files_of(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def largest(folder: Path) -> Path:
    """The file that holds most."""
    return max(files_of(folder), key=lambda path: path.stat().st_size)


# --- checkpoints ---


def _newest_is_bad(scene: Scene) -> None:
    older, newest = scene.steps()[-2:]
    scene.says += [f"{newest.name} (", f"Using step {int(older.name)} ({older.name})"]


def flipped_bit(scene: Scene) -> None:
    _newest_is_bad(scene)
    flip(largest(scene.steps()[-1]))


def truncated(scene: Scene) -> None:
    _newest_is_bad(scene)
    cut(largest(scene.steps()[-1]))


def absent(scene: Scene) -> None:
    _newest_is_bad(scene)
    largest(scene.steps()[-1]).unlink()


def manifest_flipped(scene: Scene) -> None:
    _newest_is_bad(scene)
    flip(scene.steps()[-1] / "manifest" / "metadata")


def empty_step(scene: Scene) -> None:
    newest = scene.steps()[-1]
    later = newest.with_name(f"{int(newest.name) + 1:08d}")
    later.mkdir()
    scene.says += [f"{later.name} (", f"Using step {int(newest.name)}"]


def half_written_step(scene: Scene) -> None:
    older, newest = scene.steps()[-2:]
    newest.rename(newest.with_name(f"{newest.name}.orbax-checkpoint-tmp-7"))
    scene.says += [
        f"{newest.name}.orbax-checkpoint-tmp-7 (its save was never completed)",
        f"Using step {int(older.name)}",
    ]


def foreign_step(scene: Scene) -> None:
    newest = scene.steps()[-1]
    other = newest.with_name("99999999")
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"somebody else's" * 99)
    (other.parent / "epoch_3").mkdir()
    scene.says += [
        "99999999 (",
        "epoch_3 (not a checkpoint of jaxreg)",
        f"Using step {int(newest.name)}",
    ]


def all_bad(scene: Scene) -> None:
    for step in scene.steps():
        flip(largest(step))
    scene.says += [f"{step.name} (" for step in scene.steps()]
    scene.repair = lambda: shutil.rmtree(
        scene.dir / "checkpoints"
    )  # what it says forces a fresh start


def all_gone(scene: Scene) -> None:
    shutil.rmtree(scene.dir / "checkpoints")


def _rewritten(scene: Scene, change: Callable[[dict, dict], tuple[dict, dict]]) -> None:
    """Saves the newest checkpoint again with another state, whole and sound."""
    from jaxreg.store.checkpoint import Checkpoints

    kept = scene.run.workdir.parent / "kept"
    shutil.copytree(scene.dir / "checkpoints", kept)

    def repair():
        shutil.rmtree(scene.dir / "checkpoints")
        shutil.copytree(kept, scene.dir / "checkpoints")

    scene.repair = repair
    store = Checkpoints(scene.dir / "checkpoints")
    entry, manifest, arrays, _ = store._newest()
    state, meta = change(dict(arrays.items()), dict(manifest["meta"]))
    serial = entry.step + 1
    store.save(serial, state, meta | {"serial": serial})


def other_dtype(scene: Scene) -> None:
    name = "device.best.output.bias"

    def change(state, meta):
        assert state[name].dtype == "float32", sorted(state)
        return state | {name: state[name].astype("float16")}, meta

    _rewritten(scene, change)
    scene.says += [f"{name} is float16[", "not float32["]


def other_leaves(scene: Scene) -> None:
    name = "device.best.output.bias"

    def change(state, meta):
        array = state.pop(name)
        return state | {"device.best.output.more": array}, meta

    _rewritten(scene, change)
    scene.says += [f"{name} is missing", "device.best.output.more is not expected"]


def foreign_members(scene: Scene) -> None:
    def change(state, meta):
        return state, meta | {"members": ["0" * 24 for _ in meta["members"]]}

    _rewritten(scene, change)


# --- metrics, members, and what the directory says about itself ---


def half_a_line(scene: Scene) -> None:
    with (scene.dir / "metrics.jsonl").open("ab") as file:
        file.write(b'{"arm": "run", "seed": 0, "st')


def rows_beyond(scene: Scene) -> None:
    config = json.loads((scene.dir / "config.json").read_text())["config"]
    last = config["train"]["num_steps"]
    row = {"arm": "run", "seed": 0, "split": "train", "accuracy": 1.0, "loss": 0.0}
    with (scene.dir / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(row | {"step": last - back}) + "\n" for back in (20, 10, 0)))


def nonsense_in_metrics(scene: Scene) -> None:
    path = scene.dir / "metrics.jsonl"
    content = path.read_bytes() if path.exists() else b""
    path.write_bytes(b"\x00\xff nonsense\n" + content)


def metrics_gone(scene: Scene) -> None:
    (scene.dir / "metrics.jsonl").unlink(missing_ok=True)


def member_flipped(scene: Scene) -> None:
    [member] = scene.dir.glob("members/*.npz")
    flip(member)
    scene.says.append(f"{member} is damaged and counts as absent")


def member_cut(scene: Scene) -> None:
    [member] = scene.dir.glob("members/*.npz")
    cut(member)
    scene.says.append(f"{member} is damaged and counts as absent")


def results_gone(scene: Scene) -> None:
    (scene.dir / "results.json").unlink()


def results_cut(scene: Scene) -> None:
    cut(scene.dir / "results.json")


def _restorable(scene: Scene, name: str) -> None:
    path = scene.dir / name
    content = path.read_bytes()
    scene.repair = lambda: path.write_bytes(content)


def config_cut(scene: Scene) -> None:
    _restorable(scene, "config.json")
    cut(scene.dir / "config.json")


def config_gone(scene: Scene) -> None:
    (scene.dir / "config.json").unlink()


def environment_cut(scene: Scene) -> None:
    _restorable(scene, "environment.json")
    cut(scene.dir / "environment.json")


def temporary_left(scene: Scene) -> None:
    (scene.dir / ".results.json.4242.jaxreg-tmp").write_bytes(b'{"experiment"')
    (scene.dir / "members").mkdir(exist_ok=True)
    (scene.dir / "members" / ".0123.npz.4242.jaxreg-tmp").write_bytes(b"PK")


def stale_lock(scene: Scene) -> None:
    (scene.dir / ".lock").write_text(
        '{"pid": 1, "host": "elsewhere", "start": "2020-01-01T00:00:00+00:00"}'
    )


# --- where the directory is ---


def relative(scene: Scene) -> None:
    scene.words.append(f"--workdir={scene.dir.relative_to(scene.run.place.folder)}")


def home(scene: Scene) -> None:
    scene.environment["HOME"] = str(scene.dir.parent)
    scene.environment["XDG_CACHE_HOME"] = str(scene.run.place.folder)
    scene.words.append(f"--workdir=~/{scene.dir.name}")


def through_a_link(scene: Scene) -> None:
    link = scene.dir.parent / "link"
    link.symlink_to(scene.dir)
    scene.words.append(f"--workdir={link}")


def moved(scene: Scene) -> None:
    other = scene.dir.parent / "moved to here"
    scene.dir.rename(other)
    scene.run.workdir = other


# --- data files ---


def own_data(scene: Scene) -> Path:
    """A data cache of this scene alone."""
    folder = scene.dir.parent / "own data"
    scene.environment["JAXREG_DATA"] = str(folder)
    return folder


def _copied_data(scene: Scene) -> Path:
    """The folder of the one data set that the scene's command reads, in a cache of its own."""
    folder = own_data(scene)
    shutil.copytree(scene.run.place.folder / "data", folder)
    used = json.loads((scene.dir / "config.json").read_text())["config"]["data"]
    from jaxreg.data import SOURCES

    source = SOURCES[used.pop("dataset")]
    found = (
        folder / source.name / source.content_hash(source.settings(seed=0, **used))[:16] / "1.0.0"
    )
    assert found.is_dir(), found
    scene.says += [str(found.parent), "is damaged and is made anew"]
    return found


def data_missing(scene: Scene) -> None:
    next(_copied_data(scene).glob("*train*")).unlink()


def data_all_missing(scene: Scene) -> None:
    shutil.rmtree(_copied_data(scene))


def data_truncated(scene: Scene) -> None:
    cut(next(_copied_data(scene).glob("*train*")))


def data_flipped(scene: Scene) -> None:
    path = next(_copied_data(scene).glob("*train*"))
    content = bytearray(path.read_bytes())
    used = [place for place, byte in enumerate(content) if byte]  # most of the file is padding
    content[used[len(used) // 2]] ^= 16
    path.write_bytes(bytes(content))


def data_of_another_grammar(scene: Scene) -> None:
    """A sound data set stands where another belongs: as if the grammar had changed and the address
    had not.
    """
    from jaxreg.data import SOURCES

    own = _copied_data(scene)
    settings = json.loads((scene.dir / "config.json").read_text())["config"]["data"]
    SOURCES[settings.pop("dataset")].load(seed=77, cache_dir=own.parents[2], **settings)
    other = next(
        path
        for path in own.parents[1].iterdir()
        if path != own.parent and (path / "1.0.0").is_dir()
    )
    shutil.rmtree(own)
    shutil.copytree(other / "1.0.0", own)
    scene.says.append("made from other settings or another grammar")


def data_metadata_gone(scene: Scene) -> None:
    (_copied_data(scene) / "dataset_info.json").unlink()

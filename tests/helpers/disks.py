"""Disks that are full, forbidden or limited: each function does it to a `Scene`, before the real
command is given.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.helpers.damage import Scene, own_data


def synced_file(number: int) -> Path:
    """The path of a descriptor that is given to `os.fsync`."""
    return Path(os.readlink(f"/proc/self/fd/{number}"))


def _mount(scene: Scene, folder: Path, size: str = "4m") -> None:
    """A small file system of its own over a folder, with what was in it; unmounted in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(folder, Path(aside) / "all")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"this machine lets nobody mount: {done.stderr.strip()}")
        scene.after.append(lambda: subprocess.run(["umount", "-l", str(folder)], check=True))
        shutil.copytree(Path(aside) / "all", folder, dirs_exist_ok=True)


def _fill(scene: Scene, folder: Path, leave: int = 0) -> None:
    """Leaves so many bytes free."""
    filler = folder / ".filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    if leave:
        os.truncate(filler, filler.stat().st_size - leave)
    scene.repair = filler.unlink


def full_checkpoints(scene: Scene) -> None:
    _mount(scene, scene.dir / "checkpoints")
    _fill(scene, scene.dir / "checkpoints")
    scene.says.append("No space left on device")


def full_directory(scene: Scene) -> None:
    _mount(scene, scene.dir)
    _fill(scene, scene.dir)
    scene.says.append("there is no space left")


def full_at_metrics(scene: Scene) -> None:
    """The member is there, its rows have no room: config.json and environment.json have."""
    _mount(scene, scene.dir)
    _fill(scene, scene.dir, leave=16384)
    scene.says.append("there is no space left")


def full_data(scene: Scene) -> None:
    folder = own_data(scene)
    _mount(scene, folder)
    _fill(scene, folder, leave=65536)
    scene.says += [f"{folder}: data cannot be written there", "No space left on device"]


def _limit(scene: Scene, limit: int) -> None:
    """No file of the process may grow beyond so many bytes: needs no mount."""
    scene.largest_file = limit

    def repair():
        scene.largest_file = None

    scene.repair = repair


def limited_checkpoints(scene: Scene) -> None:
    _limit(scene, 12_000)


def limited_metrics(scene: Scene) -> None:
    _limit(scene, 12_000)
    scene.says.append("the file would be larger than is allowed here")


def limited_data(scene: Scene) -> None:
    folder = own_data(scene)
    _limit(scene, 60_000)
    scene.says += [f"{folder}: data cannot be written there", "File too large"]


def _read_only(scene: Scene, folder: Path) -> None:
    """Nobody can write: by the file system for root, by permissions for anybody else."""
    if os.geteuid():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o555)
        scene.repair = lambda: folder.chmod(0o755)
        scene.after.append(lambda: folder.chmod(0o755))
        return
    _mount(scene, folder)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    scene.repair = lambda: subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def read_only_directory(scene: Scene) -> None:
    _read_only(scene, scene.dir)


def read_only_checkpoints(scene: Scene) -> None:
    _read_only(scene, scene.dir / "checkpoints")


def read_only_parent(scene: Scene) -> None:
    _read_only(scene, scene.dir.parent / "locked")
    scene.words.append(f"--workdir={scene.dir.parent / 'locked' / 'run'}")


def read_only_data(scene: Scene) -> None:
    folder = own_data(scene)
    _read_only(scene, folder)
    scene.says.append(f"{folder}: data cannot be written there")

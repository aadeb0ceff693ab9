"""A person's folder, a fake cloud, and the real command with the fake gcloud before everything else
on its PATH.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.fake_gcloud import Cloud

ROOT = Path(__file__).parents[2]
TPU = (
    "launch",
    "tpu",
    "t",
    "--accelerator_type=v5litepod-8",
    "--zone=z",
    "--project=p",
    "--poll=0.1",
)


class Place:
    """Where a person launches from, and the cloud they launch to."""

    def __init__(self, folder: Path):
        self.folder, self.home = folder, folder / "home"
        self.cloud = Cloud(folder / "cloud")
        self.home.mkdir()
        (self.cloud.folder / "bin").mkdir()
        (folder / "bin").mkdir()
        for path, script in (
            (folder / "bin" / "gcloud", "fake_gcloud.py"),
            (self.cloud.folder / "bin" / "uv", "fake_uv.py"),
        ):
            path.write_text(
                f'#!/bin/bash\nexec "{sys.executable}" -S "{Path(__file__).parent / script}" "$@"\n'
            )
            path.chmod(0o755)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("JAX", "XLA"))
        } | {
            "FAKE_GCLOUD": str(self.cloud.folder),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "JAXREG_DATA": str(folder / "data"),
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *words: str) -> subprocess.Popen:
        """Starts a command in the person's folder."""
        return subprocess.Popen(
            [sys.executable, "-m", "jaxreg.cli.main", *words],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """What a command says; checks its exit code, and that nothing runs or costs money
        afterwards.
        """
        process = self.start(*words)
        try:
            said = process.communicate(timeout=600)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == code, said
        return said

    def until(self, happened, process: subprocess.Popen, seconds: float = 120.0) -> None:
        """Waits until something has happened while a command runs."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.02)

    def interrupt(self, process: subprocess.Popen) -> None:
        """Ctrl-C."""
        process.send_signal(signal.SIGINT)

    def clean(self) -> bool:
        """Whether nothing is left running and nothing costs money."""
        return (
            not self.cloud.nodes()
            and not list(self.cloud.folder.glob("requests/*"))
            and not self.cloud.processes("t")
        )

"""A real S3 server on this machine, and run directories in it."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from jaxreg.store.paths import as_path
from tests.helpers.place import Place, Run

SECRET = "not-to-be-printed-7f3a"
LISTENS = re.compile(r"http://127\.0\.0\.1:\d+(?=\s)")


class Server:
    """An S3 server in a process of its own. `environment` points s3fs and botocore at it; `s3` is a
    file system in this process.
    """

    def __init__(self, log: Path):
        # Port 0: the server takes a free one itself. One that is looked for beforehand may be
        # another worker's by the time that the server is up.
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 60
        while not (found := LISTENS.search(log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        self.environment = {
            "AWS_ENDPOINT_URL": found[0],
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def s3(self):
        """The file system, without cached listings."""
        import fsspec

        return fsspec.filesystem("s3", use_listings_cache=False)

    def stop(self) -> None:
        """Ends the server; what was in it is gone."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(log: Path):
    """A server with an empty bucket "bucket", to which this process's own file system is pointed
    too.
    """
    server, before = Server(log), dict(os.environ)
    try:
        os.environ.update(server.environment)
        server.s3.mkdir("bucket")
        yield server
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.s3.clear_instance_cache()
        server.stop()


class RemotePlace(Place):
    """A folder as a user has it, whose run directories are in the bucket."""

    def __init__(self, folder: Path, server: Server):
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        self.environment |= server.environment

    def run(self, name: str) -> Run:
        """A run directory in the bucket, without neighbours, with a space in its name."""
        run = super().run(name)
        run.workdir = as_path(f"s3://bucket/{name}/a run")
        return run

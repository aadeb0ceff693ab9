"""A job of several processes needs one directory for all: what is none is refused with the reason,
and a store is one.
"""

import io
import zipfile

import pytest

pytest.importorskip("moto", reason="needs the test extra")


from tests.helpers.job import Job
from tests.helpers.object_store import RemotePlace, serving
from tests.helpers.place import COMPARE, Place


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> RemotePlace:
    with serving(tmp_path_factory.mktemp("server") / "log") as server:
        yield RemotePlace(tmp_path_factory.mktemp("place"), server)


APART = """
import os, sys
os.chdir(sys.argv.pop(1))
from jaxreg.cli.main import main
from jaxreg.store import lock
lock._SHARED_WAIT_SECONDS = 1.0  # it would wait for a slow network file system
sys.exit(main())
"""


@pytest.mark.system
def test_a_local_directory_that_not_all_processes_see_is_refused_with_the_reason(place):
    """One path, two directories, as /tmp/run is on two hosts: each process stands elsewhere, and
    the path leads to where it stands.
    """
    words = [
        "compare",
        str(place.folder / "experiments" / "tiny.py"),
        "--workdir=/proc/self/cwd/run",
    ]
    folders = [place.folder / "apart" / str(index) for index in (0, 1)]
    for folder in folders:
        folder.mkdir(parents=True)
    job = Job(place, "apart", [["-c", APART, str(folder), *words] for folder in folders], module="")
    assert job.codes() == [2, 2], job.all_said()
    for index, folder in enumerate(folders):
        assert (
            "is not the same directory for all 2 processes of this job: give one on gs://, s3:// or"
            " on a disk that all hosts share" in job.err(index)
        )
        assert "Traceback" not in job.err(index)
        assert [path.name for path in folder.rglob("*") if path.name not in ("run", ".lock")] == []


def arrays(content: bytes) -> dict[str, bytes]:
    """The arrays of a member's file; its header also says how many processes made it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "record.json"}


@pytest.mark.system
def test_two_processes_in_a_bucket_give_the_bytes_of_one_on_a_disk(place):
    """Two processes of two devices against one of four."""
    local, remote = Place.run(place, "local"), place.run("remote")
    local.finish(*COMPARE, "--devices=4")
    job = Job(place, "bucket", (*COMPARE, f"--workdir={remote.workdir}"))
    assert job.codes() == [0, 0], job.all_said()
    for name in ("results.json", "config.json"):
        assert (remote.workdir / name).read_bytes() == (local.workdir / name).read_bytes(), name
    mine, theirs = (
        {name: arrays(content) for name, content in run.members().items()}
        for run in (remote, local)
    )
    assert mine and mine == theirs
    assert not (remote.workdir / ".lock").exists() and not (remote.workdir / ".shared").exists()

"""The exact commands of each mode, the table of accelerators, what goes along, and how a command is
shared out.
"""

import io
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from jaxreg.cli import main as cli
from jaxreg.cli.commands import launch_tpu
from jaxreg.cli.launched_command import Launched
from jaxreg.errors import UserErrors
from jaxreg.launch import accelerators, fanout, package
from jaxreg.launch.carried_files import carry
from jaxreg.launch.tpu import gcloud

WHERE = "--zone=us-west4-a --project=p --quiet"
ON_DEMAND = gcloud.Request("t", "us-west4-a", "p", "v5litepod-8", "v2-alpha-tpuv5-lite")
SPOT = gcloud.Request("t", "us-west4-a", "p", "v5litepod-8", "v2-alpha-tpuv5-lite", spot=True)
QUEUED = gcloud.Request(
    "t", "us-west4-a", "p", "v6e-8", "v2-alpha-tpuv6e", spot=True, queued=True, valid_until="6h"
)
PLAIN = gcloud.Request("t", "us-west4-a", None, "v4-8", "tpu-ubuntu2204-base", queued=True)

LISTS = [
    (
        gcloud.create(ON_DEMAND),
        (
            "gcloud compute tpus tpu-vm create t --accelerator-type=v5litepod-8"
            f" --version=v2-alpha-tpuv5-lite {WHERE}"
        ),
    ),
    (
        gcloud.create(SPOT),
        (
            "gcloud compute tpus tpu-vm create t --accelerator-type=v5litepod-8"
            f" --version=v2-alpha-tpuv5-lite --spot {WHERE}"
        ),
    ),
    (
        gcloud.create(QUEUED),
        (
            "gcloud compute tpus queued-resources create t --node-id=t --accelerator-type=v6e-8"
            f" --runtime-version=v2-alpha-tpuv6e --valid-until-duration=6h --spot {WHERE}"
        ),
    ),
    (
        gcloud.create(PLAIN),
        (
            "gcloud compute tpus queued-resources create t --node-id=t --accelerator-type=v4-8"
            " --runtime-version=tpu-ubuntu2204-base --zone=us-west4-a --quiet"
        ),
    ),
    (
        gcloud.describe(SPOT),
        (
            "gcloud compute tpus tpu-vm describe t '--format=json(state,health,networkEndpoints)'"
            f" {WHERE}"
        ),
    ),
    (
        gcloud.describe_queued(QUEUED),
        f"gcloud compute tpus queued-resources describe t '--format=json(state)' {WHERE}",
    ),
    (gcloud.delete(SPOT), f"gcloud compute tpus tpu-vm delete t {WHERE}"),
    (gcloud.delete(QUEUED), f"gcloud compute tpus queued-resources delete t --force {WHERE}"),
    (
        gcloud.upload(SPOT, "b.tar.gz"),
        f"gcloud compute tpus tpu-vm scp b.tar.gz t:jaxreg-launch.tar.gz --worker=all {WHERE}",
    ),
    (
        gcloud.set_up(SPOT),
        (
            "gcloud compute tpus tpu-vm ssh t --worker=all '--command=mkdir -p jaxreg-launch &&"
            " tar -xzf jaxreg-launch.tar.gz -C jaxreg-launch && bash jaxreg-launch/setup.sh'"
            f" {WHERE}"
        ),
    ),
    (
        gcloud.run(SPOT, 3, 2),
        (
            "gcloud compute tpus tpu-vm ssh t --worker=3 '--command=bash jaxreg-launch/run.sh 2'"
            f" {WHERE}"
        ),
    ),
    (
        gcloud.stop(SPOT, 2),
        (
            "gcloud compute tpus tpu-vm ssh t --worker=all '--command=bash jaxreg-launch/stop.sh"
            f" 2' {WHERE}"
        ),
    ),
    (
        gcloud.fetch(SPOT, "runs/x", "here"),
        f"gcloud compute tpus tpu-vm scp t:runs/x here --worker=0 --recurse {WHERE}",
    ),
    (
        gcloud.fetch_bucket(SPOT, "gs://b/x", "here/x"),
        (
            "gcloud storage rsync gs://b/x here/x '--exclude=^checkpoints/.*' --recursive"
            " --project=p --quiet"
        ),
    ),
]


@pytest.mark.parametrize(("words", "line"), LISTS, ids=range(len(LISTS)))
def test_argument_lists(words, line):
    assert shlex.join(words) == line


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="the real gcloud is not installed")
@pytest.mark.parametrize("line", sorted({line for _, line in LISTS}))
def test_the_real_gcloud_would_take_them(line, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    words = ["gcloud", "meta", "lint-gcloud-commands", f"--command-string={line}", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert '"success": true' in done.stdout.lower(), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "runtime", "hosts", "chips", "topology"),
    [
        ("v2-8", "tpu-ubuntu2204-base", 1, 4, "2x2"),
        ("v3-32", "tpu-ubuntu2204-base", 4, 16, "4x4"),
        ("v4-8", "tpu-ubuntu2204-base", 1, 4, "2x2x1"),
        ("v4-16", "tpu-ubuntu2204-base", 2, 8, "2x2x2"),
        ("v5litepod-1", "v2-alpha-tpuv5-lite", 1, 1, "1x1"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite", 1, 8, "2x4"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite", 4, 16, "4x4"),
        ("v5p-8", "v2-alpha-tpuv5", 1, 4, "2x2x1"),
        ("v5p-128", "v2-alpha-tpuv5", 16, 64, "4x4x4"),
        ("v6e-8", "v2-alpha-tpuv6e", 1, 8, "2x4"),
        ("v6e-256", "v2-alpha-tpuv6e", 64, 256, "16x16"),
    ],
)
def test_accelerators(text, runtime, hosts, chips, topology):
    found = accelerators.cloud_tpu(text)
    assert (found.runtime, found.hosts, found.chips, found.topology) == (
        runtime,
        hosts,
        chips,
        topology,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "tpu7x-8",
            (
                "the Cloud TPU API does not have TPU7x and later ones; they need GKE (jaxreg launch"
                " gke --accelerator_type=tpu7x-8) or Compute Engine; see https://"
            ),
        ),
        ("v5e-8", "is called v5litepod-N, such as v5litepod-8; see https://"),
        ("v7x-8", "is called tpu7x-N"),
        ("v6e8", "did you mean v6e-8?; see https://"),
        ("h100", "no accelerator type known here"),
        ("v5litepod-6", "no slice has 6 of them; see https://"),
        ("v4-4", "counts cores, and no slice has 4 of them"),
        ("v6e-0", "no accelerator type known here"),
    ],
)
def test_accelerators_that_are_none(text, reason):
    with pytest.raises(UserErrors) as error:
        accelerators.cloud_tpu(text)
    [line] = error.value.mistakes
    assert line.startswith(f"--accelerator_type={text}: ") and reason in line


def test_seeds_and_arms_are_shared_out_into_neighbouring_directories():
    words = shlex.split(
        "jaxreg compare x.py --seeds 5 --workdir=gs://b/run/ --config.train.num_steps=7"
    )
    assert [shlex.join(part) for part in fanout.shared_out(words, "seeds", ("1", "2", "3"), 2)] == [
        "jaxreg compare x.py --seeds=1,3 --workdir=gs://b/run-0 --config.train.num_steps=7",
        "jaxreg compare x.py --seeds=2, --workdir=gs://b/run-1 --config.train.num_steps=7",
    ]
    words = shlex.split("jaxreg compare x.py --workdir=runs/r")
    assert [shlex.join(part) for part in fanout.shared_out(words, "arms", ("a", "b", "c"), 3)] == [
        f"jaxreg compare x.py --workdir=runs/r-{i} --arms={arm}" for i, arm in enumerate("abc")
    ]
    with pytest.raises(UserErrors, match="there are only 3 arms"):
        fanout.shared_out(words, "arms", ("a", "b", "c"), 4)


@pytest.fixture
def person(tmp_path):
    """A project, and an experiment of another folder, with the config that it names; jaxreg lies
    elsewhere.
    """
    own = ("own/parity.py", "own/config.py", "own/readme.md")
    for name in (
        "project/notes.txt",
        "project/data/corpus.txt",
        *own,
        "far/configs/base.py",
        "far/deep/e.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_files_outside_the_package_go_along_and_keep_their_places(person):
    here = person / "project"
    words = (
        "jaxreg",
        "compare",
        str(person / "own/parity.py"),
        "--config.data.path=data/corpus.txt",
        "--workdir=data",
        "--split",
        "compare",
    )
    carried = carry([words], [Path("../own/config.py")], here)
    own = {name for name in carried.files if not name.startswith("project/configs/")}
    assert (
        own == {"own/parity.py", "own/config.py", "project/data/corpus.txt"}
        and carried.start == "project"
    )
    assert "project/configs/base.py" in carried.files, (
        "the defaults, from jaxreg's own source: nothing nearer has them"
    )
    assert carried.commands == (("jaxreg", "compare", "../own/parity.py", *words[3:]),), (
        "from where the command starts there"
    )


def test_configs_beside_the_experiment_stay_there(person):
    carried = carry(
        [("jaxreg", "compare", "../far/deep/e.py")],
        [person / "project/notes.txt"],
        person / "project",
    )
    assert set(carried.files) == {"far/deep/e.py", "far/configs/base.py", "project/notes.txt"}


def test_too_much_is_refused(person, monkeypatch):
    monkeypatch.setattr("jaxreg.launch.carried_files.MOST_BYTES", 10)
    with pytest.raises(UserErrors, match="at most 0 MB go along: put large data into a bucket"):
        carry([("x", "data/corpus.txt"), ("x", "../own/parity.py")], [], person / "project")


def test_the_archive_is_the_same_for_the_same_content_and_holds_the_package(person):
    carried = carry([("jaxreg", "compare", "../own/parity.py")], [], person / "project")
    made = [
        package.bundle(
            carried.commands[0],
            carried,
            package.Packages(),
            environment={"A": "b c"},
            before="mount x",
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as archive:
        names = archive.getnames()
        texts = {
            name: archive.extractfile(name).read()
            for name in names
            if not name.startswith("files/")
        }
    assert {
        "setup.sh",
        "run.sh",
        "stop.sh",
        "files/own/config.py",
        "files/project/.jaxreg-launch",
    } <= set(names)
    assert (
        b"BEFORE='mount x'" in texts["settings.sh"]
        and f"PACKAGES=(./{package.source_name()}.tar.gz 'jax[tpu]')".encode()
        in texts["settings.sh"]
    )
    assert (
        b"export A='b c'\ncd files/project || exit 1\nexec jaxreg compare ../own/parity.py\n"
        in texts["command.sh"]
    )
    with tarfile.open(fileobj=io.BytesIO(texts[f"{package.source_name()}.tar.gz"])) as source:
        inside = source.getnames()
    needed = (
        "pyproject.toml",
        "jaxreg/study/report/web/shared/page.css",
        "jaxreg/launch/worker/run.sh",
    )
    assert {f"{package.source_name()}/{name}" for name in needed} <= set(inside)
    assert not [name for name in inside if "__pycache__" in name]
    for name in ("setup.sh", "run.sh", "stop.sh", "command.sh"):
        assert subprocess.run(["bash", "-n"], input=texts[name], check=False).returncode == 0, name


DRY = [
    "launch",
    "tpu",
    "--accelerator_type=v4-16",
    "--zone=z",
    "--spot",
    "--queued",
    "--slices=2",
    "--dry_run",
]


def test_a_dry_run_prints_every_command_and_needs_no_gcloud(monkeypatch, capsys, workplace):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("PATH", str(workplace / "nothing"))
    words = [
        *DRY,
        "--",
        "jaxreg",
        "compare",
        "experiments/cat_sat.py",
        "--seeds=3",
        "--workdir=gs://b/run",
    ]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith("gcloud")]
    verbs = [
        shlex.split(line)[3:5]
        for line in lines
        if "jaxreg-cat-sat-1" in line and "storage" not in line
    ]
    assert verbs == [
        ["queued-resources", "describe"],
        ["queued-resources", "create"],
        ["queued-resources", "describe"],
        ["tpu-vm", "describe"],
        ["tpu-vm", "scp"],
        ["tpu-vm", "ssh"],
        ["tpu-vm", "ssh"],
        ["tpu-vm", "ssh"],
        ["queued-resources", "delete"],
    ]
    assert (
        "gcloud storage rsync gs://b/run-1 launches/jaxreg-cat-sat/run-1"
        " '--exclude=^checkpoints/.*' --recursive --quiet" in lines
    )
    assert f"# workers install: ./{package.source_name()}.tar.gz, jax[tpu], gcsfs" in said
    assert said.endswith(
        "jaxreg compare experiments/cat_sat.py --seeds=3 --workdir=gs://b/run\n"
    ), "the command that joins"
    assert not (workplace / "launches").exists()


@pytest.mark.parametrize(
    "kind, words, asked",
    [
        ("v5litepod-8", "jaxreg compare a.py", "jaxreg plan a.py --accelerator=v5e-8 "),
        ("v6e-16", "jaxreg grid b.py", "jaxreg plan b.py --accelerator=v6e-8 "),
        ("v2-8", "jaxreg compare a.py", None),
        ("v5litepod-8", "python a.py", None),
    ],
)
def test_a_launch_says_how_to_ask_whether_it_fits(kind, words, asked):
    parts = [Launched((*words.split(), "--workdir=gs://b/r"), "gs://b/r")] * 2
    said = launch_tpu._plans(kind, parts)
    assert [line.removeprefix("note: ").startswith(asked or "") for line in said] == (
        [True] if asked else []
    )

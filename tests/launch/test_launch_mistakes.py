"""Every mistake of a launch in one line, all at once, before anything costs money; exit code 2."""

import pytest

from jaxreg.cli import main as cli

TPU = "launch tpu --accelerator_type=v5litepod-8 --zone=z"
COMPARE = "-- jaxreg compare experiments/cat_sat.py --workdir=gs://b/r"

CASES = [
    (
        "launch",
        [
            "ENGINE is missing: tpu, gke, slurm, skypilot",
            "the command is missing: write it behind --",
        ],
    ),
    ("launch tpy -- true", ["'tpy': there is no such engine; did you mean tpu?"]),
    (f"launch tpu {COMPARE}", ["--accelerator_type is missing: ", "--zone is missing: "]),
    (f"{TPU}", ["the command is missing"]),
    (f"{TPU} --sppot {COMPARE}", ["--sppot: launch has no such flag; did you mean --spot?"]),
    (f"{TPU} --image=x {COMPARE}", ["--image: launch tpu has no such flag"]),
    (
        f"{TPU} name more {COMPARE}",
        ["'more': is one argument too many; the command stands behind --"],
    ),
    (f"{TPU} My_Run {COMPARE}", ["'My_Run': a name has small letters, digits and dashes"]),
    (f"{TPU} --attempts=0 {COMPARE}", ["--attempts=0: must be a whole number, 1 or more"]),
    (f"{TPU} --poll=never {COMPARE}", ["--poll=never: must be seconds, above 0"]),
    (f"{TPU} --valid_until=6h {COMPARE}", ["--valid_until=6h: only a --queued request waits"]),
    (
        f"{TPU} --queued --valid_until=soon {COMPARE}",
        ["--valid_until=soon: must be a duration such as 90m, 6h or 2d"],
    ),
    (f"{TPU} --python=3.10 {COMPARE}", ["--python=3.10: must be 3.11 or later"]),
    (f"{TPU} --copy=nowhere {COMPARE}", ["--copy=nowhere: there is no nowhere"]),
    (f"{TPU} --split=weeks {COMPARE}", ["--split=weeks: must be seeds or arms"]),
    (
        f"{TPU} --slices=99 {COMPARE}",
        ["--slices=99: there are only 12 seeds to share out (--split=seeds)"],
    ),
    (
        f"{TPU} --slices=99 --split=arms {COMPARE}",
        ["--slices=99: there are only 9 arms to share out"],
    ),
    (
        f"{TPU} --slices=2 -- jaxreg train --config=configs/cat_sat.py --workdir=gs://b/r",
        ["only jaxreg compare with a --workdir can be shared out"],
    ),
    (f"{TPU} --slices=3 {COMPARE} -- true", ["there are 2 commands, and each gets a slice"]),
    (
        f"{TPU} {COMPARE} {COMPARE}",
        ["two commands have a run directory 'r': their results would mix"],
    ),
    (
        f"{TPU} -- jaxreg comparre x",
        ["-- jaxreg comparre: there is no such command to launch; did you mean compare?"],
    ),
    (f"{TPU} -- jaxreg launch tpu", ["-- jaxreg launch: there is no such command to launch"]),
    (
        f"{TPU} -- jaxreg compare experiments/cat_sta.py",
        [
            "-- jaxreg compare: --workdir is missing",
            "no such file; did you mean experiments/cat_sat.py?",
        ],
    ),
    (
        f"{TPU} {COMPARE} --config.model.num_layer=4 --arms=nonne",
        ["did you mean model.num_layers?", "there is no arm 'nonne'; did you mean none?"],
    ),
    (
        f"{TPU} -- jaxreg train --config=configs/no.py --workdir=gs://b/r",
        ["-- jaxreg train: configs/no.py: no such file"],
    ),
    (
        f"{TPU} -- jaxreg claims --claims=nowhere --workdir=gs://b/r",
        ["-- jaxreg claims: --claims=nowhere: there is no such directory"],
    ),
    (
        (
            f"{TPU.replace('v5litepod-8', 'v5litepod-16')} -- jaxreg compare experiments/cat_sat.py"
            " --workdir=runs/x"
        ),
        [
            "--workdir=runs/x: v5litepod-16 has 4 hosts, each with a disk of its own, and a"
            " checkpoint must be seen by all: use gs://BUCKET/RUN, or"
        ],
    ),
    (f"launch gke --accelerator_type=v5litepod-8 {COMPARE}", ["--image is missing"]),
    (
        (
            "launch gke --accelerator_type=v2-8 --image=x -- jaxreg compare experiments/cat_sat.py"
            " --workdir=runs/x"
        ),
        [
            "no node pool of GKE is known for it",
            "--workdir=runs/x: the disk is gone with the machine",
        ],
    ),
    (
        f"launch slurm --zone=z --time=tomorrow {COMPARE}",
        [
            "--zone: launch slurm has no such flag",
            "--time=tomorrow: must be a limit as Slurm writes it",
        ],
    ),
    (
        f"launch skypilot --accelerator_type=H100:8 {COMPARE} -- true",
        ["a task file has one command; there are 2"],
    ),
]


@pytest.mark.parametrize(("line", "expected"), CASES, ids=[line[:60] for line, _ in CASES])
def test_mistakes(line, expected, workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("PATH", str(workplace / "nothing"))
    assert cli.main(line.split()) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    for text in expected:
        assert text in err
    lines = [text for text in err.splitlines() if "gcloud is not installed" not in text]
    assert all(text.startswith("jaxreg launch: ") for text in lines) and len(lines) == len(
        expected
    ), err


def test_without_gcloud_it_says_where_to_get_it(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("PATH", str(workplace / "nothing"))
    assert cli.main(f"{TPU} -- true".split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert (
        line == "jaxreg launch: gcloud is not installed here: see"
        " https://cloud.google.com/sdk/docs/install; --dry_run works without it"
    )

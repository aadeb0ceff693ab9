"""`jaxreg launch`: a command on Cloud TPU, or the task file for GKE, Slurm or SkyPilot."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from jaxreg.cli import arguments, launched_command
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.cli.launched_command import Launched
from jaxreg.errors import DONE, UserErrors, collecting, nearest
from jaxreg.launch import accelerators, fanout

_TPU_FLAGS = (
    "--accelerator_type --zone --project --spot --queued --valid_until --slices --split --results"
    " --copy --package --python --before --shared --attempts --poll --reuse --keep --dry_run"
)
ENGINES = {
    engine: frozenset(flags.split())
    for engine, flags in {
        "tpu": _TPU_FLAGS,
        "gke": "--accelerator_type --image --spot --attempts --slices --split",
        "slurm": "--nodes --gpus --time --partition --before --slices --split",
        "skypilot": "--accelerator_type --nodes --spot --attempts --package --python",
    }.items()
}
"""Engine -> the flags it has."""
_REQUIRED = {
    "tpu": ("--accelerator_type", "--zone"),
    "gke": ("--accelerator_type", "--image"),
    "slurm": (),
    "skypilot": ("--accelerator_type",),
}
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_NAME_HELP = (
    "a name has small letters, digits and dashes, begins with a letter, and is at most 40 long"
)

USAGE = Usage(
    command="launch",
    what="run a command on Cloud TPU, or print the task file for GKE, Slurm or SkyPilot",
    position="ENGINE",
    position_help="tpu, gke, slurm or skypilot; behind it a name, else jaxreg-FILE",
    many=True,
    takes_command=True,
    flags={
        "--accelerator_type": Flag(
            "TYPE", "tpu, gke: such as v5litepod-8, v6e-16, v5p-8; skypilot: such as H100:8"
        ),
        "--zone": Flag("ZONE", "tpu: such as us-west4-a"),
        "--project": Flag("PROJECT", "tpu: default: the one that gcloud is configured for"),
        "--spot": Flag(
            "", "tpu, gke, skypilot: cheaper, may be preempted; the run goes on by itself"
        ),
        "--queued": Flag("", "tpu: as a queued resource, which waits until there is room"),
        "--valid_until": Flag(
            "DURATION", "tpu: give the queued request up after so long, such as 6h"
        ),
        "--slices": Flag(
            "N",
            "tpu, gke, slurm: share the command out; several commands, each behind a --, get a"
            " slice each",
        ),
        "--split": Flag("seeds|arms", "tpu, gke, slurm: what --slices shares out", default="seeds"),
        "--results": Flag("DIR", "tpu: for logs and fetched results; default: launches/NAME"),
        "--copy": Flag(
            "PATHS", "tpu: more files and folders that the command needs, with commas between"
        ),
        "--package": Flag(
            "REQUIREMENT",
            "tpu, skypilot: jaxreg as pip takes it, such as git+https://HOST/REPO@TAG; default:"
            " this working tree",
        ),
        "--python": Flag("VERSION", "tpu, skypilot: of the workers", default="3.12"),
        "--before": Flag(
            "LINE",
            "tpu, slurm: a shell line that each worker runs first, such as the mount of a shared"
            " disk",
        ),
        "--shared": Flag(
            "DIR", "tpu: a folder of a disk that all workers mount; a --workdir in it may be local"
        ),
        "--attempts": Flag(
            "N", "tpu, gke, skypilot: runs at most, preemptions included", default="10"
        ),
        "--poll": Flag("SECONDS", "tpu: between two looks at the state", default="10"),
        "--reuse": Flag("", "tpu: take the TPU of this name if there is one"),
        "--keep": Flag("", "tpu: do not delete it in the end; it costs money until you do"),
        "--image": Flag("IMAGE", "gke: a container that has jaxreg and the command's files"),
        "--nodes": Flag("N", "slurm, skypilot: machines", default="1"),
        "--gpus": Flag("N", "slurm: of each machine", default="1"),
        "--time": Flag("LIMIT", "slurm: such as 24:00:00", default="24:00:00"),
        "--partition": Flag("PARTITION", "slurm: default: the cluster's own"),
        "--dry_run": Flag("", "tpu: print every command, and stop; needs no gcloud"),
    },
    examples=(
        (
            "jaxreg launch tpu --accelerator_type=v5litepod-8 --zone=us-west4-a --spot -- jaxreg"
            " compare experiments/cat_sat.py --workdir=gs://BUCKET/a"
        ),
        (
            "jaxreg launch tpu abc --accelerator_type=v6e-8 --zone=us-east5-b --slices=4 -- jaxreg"
            " compare experiments/cat_sat.py --workdir=gs://B/b"
        ),
        (
            "jaxreg launch gke --accelerator_type=v5litepod-16 --image=IMAGE -- jaxreg compare"
            " experiments/cat_sat.py --workdir=gs://BUCKET/c"
        ),
    ),
)


def run(given: Arguments) -> int:
    """Checks everything, then launches or prints; returns the exit code.

    Raises:
      UserErrors: all mistakes, of the launch and of the command, before anything costs money.
    """
    mistakes = list(given.mistakes)
    engine = _engine(given, mistakes)
    commands = [launched_command.read(c, mistakes) for c in fanout.commands_of(given.command)]
    parts = _parts(given, commands, mistakes)
    name = given.positions[1] if len(given.positions) > 1 else f"jaxreg-{commands[0].stem}"
    if not _NAME.fullmatch(name):
        mistakes.append(f"{name!r}: {_NAME_HELP}")
    if engine == "tpu":
        from jaxreg.cli.commands import launch_tpu

        return launch_tpu.run(name, given, parts, mistakes)
    if engine is None:
        raise UserErrors(mistakes)
    from jaxreg.launch import task_files

    text = task_files.fill(
        engine, name, _numbers(given, engine, mistakes), [part.words for part in parts], mistakes
    )
    if mistakes:
        raise UserErrors(mistakes)
    print(text, end="")
    return DONE


def _engine(given: Arguments, mistakes: list[str]) -> str | None:
    """The engine; its unknown and missing flags become mistakes."""
    if not given.positions:
        mistakes.append(f"ENGINE is missing: {', '.join(ENGINES)}")
        return None
    engine = given.positions[0]
    if engine not in ENGINES:
        mistakes.append(f"{engine!r}: there is no such engine{nearest(engine, ENGINES)}")
        return None
    mistakes += [
        f"{word!r}: is one argument too many; the command stands behind --"
        for word in given.positions[2:]
    ]
    for name, flag in USAGE.flags.items():
        text = given.flags[name]
        if name not in ENGINES[engine] and text != flag.default:
            mistakes.append(
                f"{name}: launch {engine} has no such flag{nearest(name, ENGINES[engine])}"
            )
        if name in _REQUIRED[engine] and text is None:
            mistakes.append(f"{name} is missing: {flag.help.partition(': ')[2]}")
    return engine


def _parts(given: Arguments, commands: Sequence[Launched], mistakes: list[str]) -> list[Launched]:
    """The command of each slice: as typed, or the shares of one."""
    before = len(mistakes)
    slices = arguments.whole(given.flags, "--slices", mistakes, minimum=1)
    by = given.flags["--split"]
    if by not in fanout.BY:
        mistakes.append(f"--split={by}: must be seeds or arms")
    if len(commands) > 1:
        if slices not in (None, len(commands)):
            mistakes.append(
                f"--slices={slices}: there are {len(commands)} commands, and each gets a slice;"
                " leave --slices out"
            )
        names = [Path(command.workdir).name for command in commands if command.workdir]
        twice = sorted({name for name in names if names.count(name) > 1})
        mistakes += [
            f"--workdir: two commands have a run directory {name!r}: their results would mix"
            for name in twice
        ]
        return list(commands)
    if slices in (None, 1) or len(mistakes) > before or not commands[0].words:
        return list(commands)
    [command] = commands
    if not command.workdir or command.words[:2] != ("jaxreg", "compare"):
        mistakes.append(
            f"--slices={slices}: only jaxreg compare with a --workdir can be shared out; other"
            " commands get a slice each: -- FIRST -- SECOND"
        )
        return [command]
    assert by is not None and slices is not None  # `by` has a default
    values = vars(command)[by]
    if values:  # else the mistakes in the experiment are listed
        with collecting(mistakes):
            shares = fanout.shared_out(command.words, by, values, slices)
            files, stem = command.files, command.stem
            return [
                Launched(words, fanout.value_of(words, "--workdir"), files=files, stem=stem)
                for words in shares
            ]
    return [command]


def _numbers(
    given: Arguments, engine: str, mistakes: list[str]
) -> dict[str, str | int | accelerators.Accelerator | None]:
    """The flags of an engine by name, whole numbers read."""
    flags: dict[str, str | int | accelerators.Accelerator | None] = {
        name.removeprefix("--"): given.flags[name] for name in ENGINES[engine]
    }
    for name in ("--nodes", "--gpus", "--attempts"):
        if name in ENGINES[engine]:
            flags[name.removeprefix("--")] = arguments.whole(
                given.flags, name, mistakes, minimum=0 if name == "--gpus" else 1
            )
    accelerator_type = given.flags["--accelerator_type"]
    if engine == "gke" and accelerator_type is not None:
        with collecting(mistakes):
            flags["accelerator"] = accelerators.accelerator(accelerator_type)
    return flags


def joining(words: Sequence[str], workdir: str) -> str:
    """The line of the shell that compares all slices' members once they are trained."""
    return shlex.join(fanout.with_value(words, "--workdir", workdir))

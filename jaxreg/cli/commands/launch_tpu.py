"""`jaxreg launch tpu`: from checked words to jobs, with one archive each."""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments
from jaxreg.cli.launched_command import Launched
from jaxreg.errors import DONE, UserErrors, collecting
from jaxreg.launch import accelerators, fanout, package
from jaxreg.launch.carried_files import Carried, carry
from jaxreg.launch.tpu import fleet, lifecycle
from jaxreg.launch.tpu.gcloud import Request
from jaxreg.launch.tpu.machine import LaunchOptions

_MAINTENANCE = (
    "note: the Cloud TPU API gets fixes only; TPU7x and later need GKE or Compute Engine: jaxreg"
    f" launch gke, {accelerators.IRONWOOD}"
)
_PLANNED = {"v4": "v4-8", "v5litepod": "v5e-8", "v5p": "v5p-8", "v6e": "v6e-8"}
"""Prefix of a type -> the accelerator that `jaxreg plan` compiles for."""


def run(name: str, given: Arguments, parts: Sequence[Launched], mistakes: list[str]) -> int:
    """Checks the rest, then launches all parts or prints what would run; returns the exit code.

    Raises:
      UserErrors: all mistakes.
    """
    flags = given.flags
    accelerator = None
    if flags["--accelerator_type"] is not None:
        with collecting(mistakes):
            accelerator = accelerators.cloud_tpu(flags["--accelerator_type"])
    how, packages = _how(given, mistakes), _packages(given, parts, mistakes)
    if accelerator is not None:
        mistakes += _local_run_directories(parts, accelerator, flags["--shared"])
    carried = _carry(parts, flags["--copy"], mistakes)
    mistakes += [] if flags["--dry_run"] else lifecycle.missing()
    if mistakes:
        raise UserErrors(mistakes)
    zone, python = flags["--zone"], flags["--python"]
    assert accelerator is not None and zone is not None  # both are required
    assert how is not None and carried is not None  # else there is a mistake
    assert python is not None  # has a default
    requests = [
        Request(
            name if len(parts) == 1 else f"{name}-{index}",
            zone,
            flags["--project"],
            accelerator.type,
            accelerator.runtime,
            spot=bool(flags["--spot"]),
            queued=bool(flags["--queued"]),
            valid_until=flags["--valid_until"],
        )
        for index in range(len(parts))
    ]
    results = Path(flags["--results"] or f"launches/{name}").expanduser()
    jobs = [
        _job(request, part, accelerator.hosts, carried, results)
        for request, part in zip(requests, parts, strict=True)
    ]
    print("\n".join([_MAINTENANCE, *_plans(accelerator.type, parts)]))
    if accelerator.hosts > 1:
        print(
            f"note: {accelerator.type} has {accelerator.hosts} hosts; the command runs on all of"
            " them: on one alone it would wait for the others"
        )
    if any(not job.in_bucket for job in jobs) and flags["--spot"] and not flags["--shared"]:
        print(
            "note: a preempted VM takes its disk along; with a local --workdir the run begins anew"
            " then, with gs://BUCKET/RUN it goes on"
        )
    after = _joining(given, parts, results)
    if flags["--dry_run"]:
        print("\n".join([*_bundled(carried, packages), *fleet.dry_run(jobs, how), *after]))
        return DONE
    environment = {"JAXREG_DISTRIBUTED": "auto"} if accelerator.hosts > 1 else {}
    for job, words in zip(jobs, carried.commands, strict=True):
        job.logs.mkdir(parents=True, exist_ok=True)
        job.archive.write_bytes(
            package.bundle(
                words,
                carried,
                packages,
                environment=environment,
                python=python,
                before=flags["--before"] or "",
            )
        )
    code = fleet.launch(jobs, how)
    if code == DONE and after:
        print("\n".join(after))
    return code


def _plans(accelerator_type: str, parts: Sequence[Launched]) -> list[str]:
    """What says beforehand whether the comparisons fit and what they cost, without a TPU."""
    target = _PLANNED.get(accelerator_type.partition("-")[0])
    asked = dict.fromkeys(
        part.words[2]
        for part in parts
        if part.words[:2] in (("jaxreg", "compare"), ("jaxreg", "grid"))
    )
    return [
        f"note: jaxreg plan {file} --accelerator={target} says, without a TPU, whether it fits and"
        " what it costs"
        for file in asked
        if target is not None
    ]


def _job(
    request: Request, part: Launched, hosts: int, carried: Carried, results: Path
) -> lifecycle.LaunchJob:
    logs = results / "logs" / request.name
    return lifecycle.LaunchJob(
        request, hosts, logs / "bundle.tar.gz", carried.start, part.workdir, results, logs
    )


def _how(given: Arguments, mistakes: list[str]) -> LaunchOptions | None:
    flags = given.flags
    attempts = arguments.whole(flags, "--attempts", mistakes, minimum=1)
    seconds, python = flags["--poll"], flags["--python"]
    assert seconds is not None and python is not None  # they have defaults
    try:
        poll = float(seconds)
        if not 0 < poll <= 3600:
            raise ValueError
    except ValueError:
        mistakes.append(f"--poll={seconds}: must be seconds, above 0")
        return None
    if flags["--valid_until"] is not None:
        if not re.fullmatch(r"[1-9][0-9]*[smhd]", flags["--valid_until"]):
            mistakes.append(
                f"--valid_until={flags['--valid_until']}: must be a duration such as 90m, 6h or 2d"
            )
        if not flags["--queued"]:
            mistakes.append(
                f"--valid_until={flags['--valid_until']}: only a --queued request waits"
            )
    if not re.fullmatch(r"3\.(1[1-9]|[2-9][0-9])(\.[0-9]+)?", python):
        mistakes.append(f"--python={python}: must be 3.11 or later")
    return LaunchOptions(
        attempts or 1, poll, keep=bool(flags["--keep"]), reuse=bool(flags["--reuse"])
    )


def _packages(given: Arguments, parts: Sequence[Launched], mistakes: list[str]) -> package.Packages:
    requirement = given.flags["--package"]
    if requirement is None and not package.has_source():
        mistakes.append(
            "--package is missing: jaxreg is installed here without its source; say what workers"
            " install, such as git+https://HOST/REPO@TAG"
        )
    return package.Packages(
        requirement, others=("jax[tpu]", *package.for_stores(part.words for part in parts))
    )


def _local_run_directories(
    parts: Sequence[Launched], accelerator: accelerators.Accelerator, shared: str | None
) -> list[str]:
    """Why a run directory of several hosts cannot be where it is asked for."""
    if accelerator.hosts == 1:
        return []
    root = None if shared is None else Path(shared)
    local = [
        part.workdir
        for part in parts
        if part.workdir
        and "://" not in part.workdir
        and not (root and Path(part.workdir).is_relative_to(root))
    ]
    return [
        f"--workdir={workdir}: {accelerator.type} has {accelerator.hosts} hosts, each with a disk"
        " of its own, and a checkpoint must be seen by all: use gs://BUCKET/RUN, or a disk that"
        " all of them mount (--shared=DIR says which)"
        for workdir in local
    ]


def _carry(parts: Sequence[Launched], more: str | None, mistakes: list[str]) -> Carried | None:
    extra = [Path(text.strip()).expanduser() for text in (more or "").split(",") if text.strip()]
    mistakes += [f"--copy={more}: there is no {path}" for path in extra if not path.exists()]
    with collecting(mistakes):
        files = [file for part in parts for file in part.files]
        return carry(
            [part.words for part in parts],
            [path for path in (*files, *extra) if path.exists()],
            Path.cwd(),
        )
    return None


def _joining(given: Arguments, parts: Sequence[Launched], results: Path) -> list[str]:
    """The note on shares: the command that compares all of them."""
    [whole, *others] = fanout.commands_of(given.command)
    if others or len(parts) == 1:
        return []
    from jaxreg.cli.commands.launch import joining

    workdir = fanout.value_of(whole, "--workdir")
    assert workdir is not None  # only a command with one is shared out
    workdir = workdir.rstrip("/")
    place = workdir if "://" in workdir else str(results / Path(workdir).name)
    return [
        "# all slices together, from their members; nothing is trained again:",
        joining(whole, place),
    ]


def _bundled(carried: Carried, packages: package.Packages) -> list[str]:
    files = ", ".join(list(carried.files)[:12]) + (
        f" and {len(carried.files) - 12} more" if len(carried.files) > 12 else ""
    )
    return [
        f"# workers install: {', '.join(packages.words())}",
        f"# files that go along: {files or 'none'}",
    ]

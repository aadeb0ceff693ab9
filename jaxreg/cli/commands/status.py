"""`jaxreg status`: what a run is doing, from its directory alone."""

import datetime
import shlex
import time
from collections.abc import Mapping
from typing import Any

from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import DONE, UserErrors, printable
from jaxreg.study.analysis.durations import duration
from jaxreg.study.engine.utilization import utilization_text

USAGE = Usage(
    command="status",
    what="say what a running or stopped run is doing, from its directory alone",
    position="DIR",
    position_help="the --workdir of a compare, train or claims",
    flags={"--json": Flag("", "everything as JSON, for programs")},
    examples=("jaxreg status runs/cat_sat", "jaxreg status runs/ledger --json"),
)

_NO_PAGE = {
    "train": "jaxreg report {directory} writes it",
    "counterfactual": "counterfactual writes none: its numbers go into the page of the run above",
}


def run(given: Arguments) -> int:
    """Prints the status and returns the exit code; starts no JAX, takes no lock, writes nothing.

    Raises:
      UserErrors: all mistakes; it is no run's directory.
    """
    if given.mistakes:
        raise UserErrors(given.mistakes)
    assert given.position is not None  # required
    from jaxreg.store.atomic import to_json
    from jaxreg.store.paths import as_path
    from jaxreg.study.engine import status

    found = status.status_of(as_path(given.position).expanduser().absolute())
    print(to_json(found, indent=2) if given.flags["--json"] else "\n".join(_lines(found)))
    return DONE


def _lines(found: Mapping[str, Any]) -> list[str]:
    """The status for people; what comes from files is shown with control characters written out."""
    members, machine, saved = found["members"], found["machine"], found["checkpoint"]
    asked = f"{found['experiment'] or found['kind']}" + (
        f": {found['question']}" if found["question"] else ""
    )
    lines = [("", asked), ("state", _state_text(found))]
    if found["claims"]:
        lines.append(("claims", f"{found['claims']['done']} of {found['claims']['total']} done"))
    lines.append(("members", _members_text(members)))
    if members["by_arm"]:
        lines.append(
            (
                "arms",
                ", ".join(f"{arm} {done}/{of}" for arm, (done, of) in members["by_arm"].items()),
            )
        )
    if found["seeds"]:
        lines.append(("seeds", f"{len(found['seeds'])}: {', '.join(map(str, found['seeds']))}"))
    if found["state"] != "done" and machine["under_way"] and machine["step"] is not None:
        of = f" of {found['num_steps']}" if found["num_steps"] else ""
        lines.append(("under way", f"{machine['under_way']} members at step {machine['step']}{of}"))
    if saved:
        lines.append(
            (
                "saved",
                (
                    f"step {saved['step']} of {saved['members']} members, {_ago(saved['saved'])}"
                    f" (checkpoints/{saved['name']})"
                ),
            )
        )
    lines += _machine_lines(
        machine, "of training not saved yet" if found["lock"]["at_work"] else "of training lost"
    )
    lines.append(("report", found["report"] or _no_page(found)))
    if found["state"] != "done" or found["command"]:
        lines.append(
            (
                "again" if found["state"] == "done" else "goes on",
                found["command"] or "with the command that began it",
            )
        )
    lines += [("damaged", line) for line in found["damaged"]]
    return [printable(f"{name:11}{text}" if name else text) for name, text in lines]


def _no_page(found: Mapping) -> str:
    """How a page comes about that is not there."""
    if found["kind"] == "train" and not found["has_results"]:
        return "not written yet"
    how = _NO_PAGE.get(found["kind"], "not written yet")
    return how.format(directory=shlex.quote(found["directory"]))


def _state_text(found: Mapping) -> str:
    lock, sign = found["lock"], found["last_sign"]
    process = (
        f"process {lock['pid']} on {lock['host']} since {lock['since']}"
        if lock["pid"] is not None and lock["at_work"] is not False
        else ""
    )
    if found["state"] == "running":
        return f"running: {process}" + (f"; last written {_ago(sign)}" if sign else "")
    when = (
        ""
        if not sign
        else f", {_ago(sign)}"
        if found["state"] == "done"
        else f"; last sign of life {_ago(sign)}"
    )
    return found["state"] + (f" ({process})" if process else "") + when


def _members_text(members: Mapping) -> str:
    if members["done"] is not None:
        return f"{members['done']} of {members['total']} done"
    return f"{members['stored']} stored" + (
        f", {members['total']} asked for at last" if members["total"] else ""
    )


def _machine_lines(machine: Mapping, unsaved: str) -> list[tuple[str, str]]:
    lines = []
    if machine["total"]:
        left = (
            f", about {duration(machine['seconds_left'])} left"
            if machine["seconds_left"] is not None
            else ""
        )
        lines.append(("progress", f"{machine['done']:,} of {machine['total']:,} model-steps{left}"))
    if machine["model_steps_per_second"]:
        lines.append(
            (
                "speed",
                (
                    f"{machine['model_steps_per_second']:,.0f} model-steps/s,"
                    f" {1e3 * machine['step_seconds']:.3g} ms a step"
                    + ("" if machine["speed_is_mean"] else ", by the last row")
                ),
            )
        )
    reading = []
    if "tokens_per_second" in machine:
        reading.append(f"{machine['tokens_per_second']:,.0f} tokens/s")
    if used := utilization_text(machine):
        reading.append(used)
    if "data_wait" in machine:
        reading.append(f"waiting for data {100 * machine['data_wait']:.1f}% of training")
    if reading:
        lines.append(("data", ", ".join(reading)))
    if machine["memory_bytes"]:
        lines.append(
            (
                "memory",
                f"{machine['memory_bytes'] / 1e6:.1f} MB a device ({machine['memory_source']})",
            )
        )
    if machine["goodput"] is not None:
        parts = [
            f"{100 * machine['goodput']:.0f}% of {duration(machine['wall_seconds'])} in"
            f" {machine['processes']} process(es)"
        ]
        others = (("lost_seconds", unsaved), ("idle_seconds", "between processes"))
        parts += [
            f"{duration(machine[name])} {what}" for name, what in others if machine[name] >= 1
        ]
        lines.append(("goodput", "; ".join(parts)))
    return lines


def _ago(when: float | int | None) -> str:
    if when is None:
        return "at an unknown time"
    at = datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{duration(max(0.0, time.time() - when))} ago, {at}"

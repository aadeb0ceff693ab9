"""What a design needs of an accelerator: memory, FLOP and device-hours; nothing runs there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.errors import UserErrors
from jaxreg.study.analysis.durations import duration
from jaxreg.study.claims import members as claim_members
from jaxreg.study.planning import compile_process, design_members
from jaxreg.study.planning.footprint import Footprint
from jaxreg.study.planning.targets import GIB, TARGETS, Target

UTILIZATION = 0.3
"""The share of the peak that the estimate of time assumes. Large models reach .3 to .5."""
OPERATION_SECONDS = 2e-6
"""From one operation to the next, assumed: what a small model waits for."""
SHOWN_ARMS = 3
_COLUMNS = (
    ("members", 7),
    ("parameters", 10),
    ("state", 9),
    ("arguments", 9),
    ("temporary", 9),
    ("peak", 9),
    ("most", 9),
    ("FLOP/step", 9),
    ("step", 9),
    ("waits for", 10),
    ("device-hours", 12),
)


def lines(
    path: Path, name: str, workdir: Path | None, overrides: Sequence[str] = ()
) -> Iterator[str]:
    """The lines of `jaxreg plan --accelerator`, each as soon as it is known.

    Args:
      path: an experiment, a claim, or a folder of claims.
      name: of the accelerator, one of `targets.TARGETS`.
      workdir: of an earlier run: what is trained there costs nothing.
      overrides: of an experiment's config.

    Raises:
      UserErrors: the file is wrong; or one line: the first structure that does not fit.
    """
    target, trained = TARGETS[name], _trained(path, workdir, overrides)
    yield (
        f"{name}: {target.devices} device(s) on {target.hosts} host(s), {target.memory / GIB:.4g}"
        " GiB each; every program is compiled for it, nothing runs. Of one device:"
    )
    yield _in_columns([title for title, _ in _COLUMNS], "arms")
    rows = []
    for row in compile_process.compiled(path, name, overrides, trained):
        if "remedy" in row:
            raise UserErrors([_refusal(path, name, target, row)])
        rows.append(row)
        yield _in_columns(_cells(row, target), _arms(row))
    yield from _summary(rows, target) if rows else ("every member is trained already",)


def _trained(path: Path, workdir: Path | None, overrides: Sequence[str]) -> list[str]:
    if workdir is None:
        return []
    specs = design_members.specs_of(path, overrides)
    missing = {spec.hash for spec in claim_members.Stored(workdir).missing(specs)}
    return [spec.hash for spec in specs if spec.hash not in missing]


def _in_columns(cells: Iterable[str], last: str) -> str:
    padded = (cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    return "  ".join([*padded, last])


def _cells(row: Mapping[str, Any], target: Target) -> list[str]:
    found, (seconds, bound) = Footprint(**row["footprint"]), step_seconds(row, target)
    sizes = (found.parameter_bytes, found.state_bytes, found.argument_bytes)
    return [
        f"{found.members:,}",
        *(_size(each) for each in (*sizes, found.temporary_bytes, found.peak_bytes)),
        f"{found.most_members(target.usable):,}",
        _number(found.step_flop),
        duration_of_step(seconds),
        bound,
        f"{target.devices * design_seconds(row, target) / 3600:.2g}",
    ]


def _arms(row: Mapping[str, Any]) -> str:
    arms = row["arms"]
    more = f" and {len(arms) - SHOWN_ARMS} more" if len(arms) > SHOWN_ARMS else ""
    return f"{', '.join(arms[:SHOWN_ARMS])}{more}: {row['members']:,} members"


def step_seconds(row: Mapping[str, Any], target: Target) -> tuple[float, str]:
    """(estimated seconds of one step of one member, what takes them: "FLOP" or "operations")."""
    found = Footprint(**row["footprint"])
    return _longer(found, found.step_flop, found.step_operations, target.peak[row["dtype"]])


def _longer(found: Footprint, flop: int, count: int, peak: float) -> tuple[float, str]:
    products = flop / (UTILIZATION * peak)
    started = count * OPERATION_SECONDS / (found.members if found.at_once else 1)
    return max((products, "FLOP"), (started, "operations"))


def design_seconds(row: Mapping[str, Any], target: Target) -> float:
    """Estimated seconds that a structure's members take on all devices, without compiling.

    Members of a device train one after the other, and a wave lasts as long as its fullest device.
    """
    found, train, peak = Footprint(**row["footprint"]), row["train"], target.peak[row["dtype"]]
    step, _ = step_seconds(row, target)
    scored, _ = _longer(found, found.pass_flop, found.pass_operations, peak)
    on_fullest = row["members"]
    if train["layout"] == "members":
        waves, rest = divmod(row["members"], target.devices * found.members)
        last = found.members if found.at_once and rest else min(rest, found.members)
        on_fullest = waves * found.members + last
    return on_fullest * (train["num_steps"] * step + found.scored_passes * scored)


def host_bytes(rows: Sequence[Mapping[str, Any]], target: Target) -> int:
    """Bytes of arrays on a host: every draw, and the tables (twice, while stacked) and states of
    the largest wave. A process holds all of it, whatever its share of the devices.
    """
    draws, waves = {}, []
    for row in rows:
        found = Footprint(**row["footprint"])
        draws |= dict.fromkeys(row["draws"], found.draw_bytes)
        spread = target.devices if row["train"]["layout"] == "members" else 1
        waves.append(spread * found.members * (2 * found.table_bytes + found.host_state_bytes))
    return sum(draws.values()) + max(waves)


def _summary(rows: Sequence[Mapping[str, Any]], target: Target) -> list[str]:
    peak = max(row["footprint"]["peak_bytes"] for row in rows)
    seconds = sum(design_seconds(row, target) for row in rows)
    steps = sum(row["members"] * row["train"]["num_steps"] for row in rows)
    peaks = sorted({row["dtype"] for row in rows})
    rates = ", ".join(f"{target.peak[dtype] / 1e12:.4g} TFLOP/s in {dtype}" for dtype in peaks)
    hours = f"{target.devices * seconds / 3600:.2g} device-hours"
    return [
        f"fits: the largest peak is {_size(peak)} of {_room(target)}; most: members of a device"
        " that would fit, by proportion",
        f"time is an estimate, the longer of the matrix products at an assumed"
        f" {100 * UTILIZATION:.0f}% of the peak, {rates} ({target.source}), and of the operations"
        f" at an assumed {1e6 * OPERATION_SECONDS:g} µs each; it counts no reading of data",
        f"host memory: about {_size(host_bytes(rows, target))} of arrays on each host",
        f"whole design: {sum(row['members'] for row in rows):,} members, {steps:,} model-steps,"
        f" about {duration(seconds)} on {target.devices} device(s), {hours}, without compiling",
    ]


def _refusal(path: Path, name: str, target: Target, row: Mapping[str, Any]) -> str:
    """One line: what does not fit, and what would."""
    needed = "more" if row["needed"] is None else _size(row["needed"])
    start = f"{path} does not fit on {name}: {_arms(row)} need {needed} of {_room(target)}"
    if row["remedy"] is None:
        return (
            f"{start}; fewer members on a device, remat and a batch in parts, where the config has"
            " them, are not enough"
        )
    fields = " and ".join(f"{field}={value}" for field, value in row["remedy"].items())
    other = ", which is another experiment" if "model.dtype" in row["remedy"] else ""
    return f"{start}; {fields} fits with {_size(row['remedy_peak'])} (compiled){other}"


def _room(target: Target) -> str:
    free = f"{100 * target.kept_free:.0f}% kept free: {target.kept_for}"
    return f"{_size(target.usable)} on a device ({target.memory / GIB:.4g} GiB, {free})"


def _size(count: float | int) -> str:
    """Bytes in the unit that leaves at most three digits before the point."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def _number(count: float | int) -> str:
    return f"{count:.2e}".replace("e+0", "e").replace("e+", "e")


def duration_of_step(seconds: float) -> str:
    """A short time in µs, ms or s."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"

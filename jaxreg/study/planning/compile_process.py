"""The process that compiles a design's programs for an accelerator, ahead of time.

It is a process of its own because libtpu reads its environment when it loads, and the other
process may use its devices. It writes a line of JSON for each structure as soon as it is known.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jaxreg
from jaxreg.errors import UserErrors
from jaxreg.study.planning.targets import TARGETS, Target


def compiled(
    path: Path, name: str, overrides: Sequence[str], skipped: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """One dict for each structure of a design, in the design's order: what `_row` returns.

    Args:
      path: see `design_members.specs_of`.
      name: of the accelerator.
      overrides: of an experiment's config.
      skipped: hashes of members that are trained already.

    Raises:
      UserErrors: the design is wrong, or cannot be spread over the accelerator's devices.
      RuntimeError: the process failed; with the end of what it said.
    """
    given = {"path": str(path), "name": name, "overrides": overrides, "skipped": list(skipped)}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            env=_environment(TARGETS[name]),
        )
        with process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()  # and it stays open: its end ends the process
            try:
                for line in process.stdout:
                    row = json.loads(line)
                    if "mistakes" in row:
                        raise UserErrors(row["mistakes"])
                    yield row
                process.wait()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"compiling for {name} failed:\n{said.read()[-4000:]}")


def _environment(target: Target) -> dict[str, str]:
    """This environment, with what the compiler needs, and JAX on the CPU."""
    ours = str(Path(jaxreg.__file__).parents[1])
    paths = [ours, *filter(None, [os.environ.get("PYTHONPATH")])]
    log = {"TF_CPP_MIN_LOG_LEVEL": "2", "TPU_MIN_LOG_LEVEL": "2"}
    own = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)}
    return log | dict(os.environ) | dict(target.environment) | own


def main() -> None:
    """Reads what `compiled` was given from the standard input and writes its rows."""
    given, out = json.loads(sys.stdin.readline()), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no row
    threading.Thread(target=_end_with_the_other, daemon=True).start()
    try:
        for row in _rows(Path(given["path"]), given["name"], given["overrides"], given["skipped"]):
            print(json.dumps(row), file=out, flush=True)
    except UserErrors as error:
        print(json.dumps({"mistakes": error.mistakes}), file=out, flush=True)


def _end_with_the_other() -> None:
    """Ends this process when the one that asked is gone: a large program compiles for minutes."""
    sys.stdin.read()
    os._exit(1)


def _rows(
    path: Path, name: str, overrides: Sequence[str], skipped: Sequence[str]
) -> Iterator[dict[str, Any]]:
    from jaxreg.study.engine import members
    from jaxreg.study.planning import targets
    from jaxreg.study.planning.design_members import specs_of
    from jaxreg.train.parallel import uneven_batch

    trained = set(skipped)
    specs = [spec for spec in specs_of(path, overrides) if spec.hash not in trained]
    groups = members.group(specs)
    target = TARGETS[name]
    trains = [group.structure["train"] for group in groups]
    uneven = [
        uneven_batch(t["layout"], t["batch_size"], target.devices, t["accumulate_steps"])
        for t in trains
    ]
    if any(uneven):
        raise UserErrors(list(dict.fromkeys(line for line in uneven if line)))
    devices = targets.devices_of(target)
    for group in groups:
        yield _row(group, devices, target)


def _row(group: Any, devices: Sequence[Any], target: Target) -> dict[str, Any]:
    """A structure's arms, members, draws, training, and footprint or what would make it fit."""
    import dataclasses

    from jaxreg.study.planning.footprint import OutOfMemory, footprint

    config = group.specs[0].config
    example = _example(config)
    row = {
        "arms": list(dict.fromkeys(spec.arm for spec in group.specs)),
        "members": len(group.specs),
        "draws": sorted({spec.data for spec in group.specs}),
        "train": dict(config["train"]),
        "dtype": config["model"].get("dtype") or "float32",
    }
    try:
        found = footprint(config, example, devices)
        needed: float | int | None = found.peak_bytes
        row["footprint"] = dataclasses.asdict(found)
    except OutOfMemory as error:
        needed = error.needed
    if "footprint" in row and found.peak_bytes <= target.usable:
        return row
    return row | {"needed": needed} | _remedy(config, example, devices, target.usable, needed)


def _example(config: Mapping) -> Any:
    from jaxreg.study.design.components import SOURCES

    own = {name: value for name, value in config["data"].items() if name != "dataset"}
    return SOURCES[config["data"]["dataset"]].preview(**own)


def _remedy(
    config: Mapping,
    example: Any,
    devices: Sequence[Any],
    usable: float | int,
    needed: float | int | None,
) -> dict[str, Any]:
    """The first smaller config that was compiled and fits, None where none does.

    Half the members need at least half of what is needed; what is too much even so is not compiled.
    """
    from jaxreg.study.planning.footprint import OutOfMemory, footprint, smaller

    each = (needed or 0.0) / config["train"]["members_per_device"]
    for changes in smaller(config, len(devices)):
        fewer = changes.get("train.members_per_device", 0) if len(changes) == 1 else 0
        if each * fewer > usable:
            continue
        changed = {name: dict(v) if isinstance(v, Mapping) else v for name, v in config.items()}
        for field, value in changes.items():
            section, _, field_name = field.partition(".")
            changed[section][field_name] = value
        try:
            peak = footprint(changed, example, devices).peak_bytes
        except OutOfMemory:
            continue
        if peak <= usable:
            return {"remedy": changes, "remedy_peak": peak}
    return {"remedy": None}


if __name__ == "__main__":
    main()

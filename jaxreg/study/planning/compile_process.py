"""The process that compiles a design's programs for an accelerator, ahead of time.

It is a process of its own because libtpu reads its environment when it loads, and the other
process may use its devices. It writes a line of JSON for each structure as soon as it is known.
"""

import functools
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
    compiled = _Compiled([group.specs[0].config for group in groups], targets.devices_of(target))
    for group in groups:
        yield _row(group, compiled, target)


class _Compiled:
    """Footprints of configs on devices; those that differ in how often alone are compiled once,
    with the most steps.
    """

    def __init__(self, configs: Sequence[Mapping], devices: Sequence[Any]):
        self.devices, self._known = devices, {}
        self._most: dict[str, Mapping] = {}
        for config in configs:
            most = self._most.setdefault(self._key(config), config)
            if config["train"]["num_steps"] > most["train"]["num_steps"]:
                self._most[self._key(config)] = config

    def footprint(self, config: Mapping, example: Any) -> Any:
        """The footprint of one of the configs.

        Raises:
          OutOfMemory: the compiler refuses a program.
        """
        import dataclasses

        from jaxreg.study.planning import footprint

        key = self._key(config)
        if key not in self._known:
            self._known[key] = footprint.footprint(self._most[key], example, self.devices)
        passes = footprint.scored_passes(config, example)
        return dataclasses.replace(self._known[key], scored_passes=passes)

    @staticmethod
    def _key(config: Mapping) -> str:
        from jaxreg.study.planning.footprint import step_of

        return json.dumps(step_of(config), sort_keys=True, default=repr)


def _row(group: Any, compiled: _Compiled, target: Target) -> dict[str, Any]:
    """A structure's arms, members, draws, training, and footprint or what would make it fit."""
    import dataclasses

    from jaxreg.study.planning.footprint import OutOfMemory

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
        found = compiled.footprint(config, example)
        needed: float | int | None = found.peak_bytes
        row["footprint"] = dataclasses.asdict(found)
    except OutOfMemory as error:
        needed = error.needed
    if "footprint" in row and found.peak_bytes <= target.usable:
        return row
    remedy = _remedy(config, example, compiled.devices, target.usable, needed)
    return row | {"needed": needed} | remedy


def _example(config: Mapping) -> Any:
    return _preview(json.dumps(config["data"], sort_keys=True))


@functools.lru_cache(maxsize=2)
def _preview(data: str) -> Any:
    from jaxreg.study.design.components import SOURCES

    own = json.loads(data)
    return SOURCES[own.pop("dataset")].preview(**own)


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

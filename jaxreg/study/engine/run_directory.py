"""A run directory's config.json and environment.json, and the experiment read from them."""

import dataclasses
import datetime
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg import __version__
from jaxreg.attention import BITS_VERSION
from jaxreg.errors import UserErrors
from jaxreg.store.atomic import to_json, write_json
from jaxreg.store.member_store import Record
from jaxreg.study.design import components, predeclared
from jaxreg.study.design.components import Own
from jaxreg.study.design.config import flat, may_change_results, validate
from jaxreg.study.design.config_fields import ADDED
from jaxreg.study.design.experiment import (
    Arm,
    Experiment,
    check_design,
    check_metric,
    load_experiment,
)
from jaxreg.study.engine import run_files
from jaxreg.study.engine.fingerprint import differing
from jaxreg.study.engine.members import code_version, plain

CONFIG, ENVIRONMENT, RESULTS = "config.json", "environment.json", "results.json"
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"),
    *("tensorflow-datasets", "ml-collections", "numpy", "scipy"),
)


def begin(
    workdir: Path,
    experiment: Experiment,
    config: Mapping,
    arms: Mapping[str, Mapping],
    seeds: Sequence[int],
    fingerprint: Mapping[str, Any],
    display: Any,
) -> None:
    """Writes the experiment. Seeds and arms may be added later; other changes are refused.

    A run that ended before it saved anything, such as one whose data could not be drawn, does not
    claim the directory.

    Raises:
      UserErrors: the directory holds work of another experiment or base config; one line per
        difference.
    """
    design = _design(experiment, config, arms, seeds)
    path = workdir / CONFIG
    before = run_files.read(path)
    trained = _holds_any(workdir / "members")
    saved = trained or _holds_any(workdir / "checkpoints") or (workdir / RESULTS).exists()
    if before is not None and saved:
        _refuse_other(workdir, before, json.loads(to_json(design)))
    declared = predeclared.declare(experiment, before if trained else None)
    write_json(path, design | {"declared": declared})
    write_environment(workdir, fingerprint, display)


def _holds_any(folder: Path) -> bool:
    return next(iter(folder.glob("*")), None) is not None


def write_environment(workdir: Path, fingerprint: Mapping[str, Any], display: Any) -> None:
    """Writes versions, devices and commit; reports a change and marks the run with it."""
    old = run_files.read(workdir / ENVIRONMENT)
    before = {} if old is None else old["fingerprint"]
    changed = differing(before, fingerprint) if before else []
    if changed:
        display.note(
            f"resumed on another machine or other versions ({', '.join(changed)} changed): numbers"
            " may differ in the last bits"
        )
    write_json(
        workdir / ENVIRONMENT,
        {
            "jaxreg": __version__,
            "python": platform.python_version(),
            "versions": versions(_PACKAGES),
            "git_commit": _git_commit(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "fingerprint": dict(fingerprint),
            "mixed_fingerprints": bool(changed) or bool(old and old.get("mixed_fingerprints")),
        },
    )


def mark_foreign(
    workdir: Path, records: Iterable[Record], fingerprint: Mapping[str, Any], display: Any
) -> None:
    """Marks and reports a run with members that were trained under another fingerprint."""
    foreign = sum(bool(differing(record.meta["fingerprint"], fingerprint)) for record in records)
    if foreign:
        path = workdir / ENVIRONMENT
        write_json(path, (run_files.read(path) or {}) | {"mixed_fingerprints": True})
        display.note(
            f"{foreign} members were trained on another machine or other versions: their last bits"
            " may differ; the run is marked"
        )


def read(workdir: Path) -> tuple[Experiment, dict, dict[str, dict], list[int]]:
    """(experiment, base config, resolved config by arm, seeds) of a run directory.

    No code is run that the directory names: own pieces must be there already, see `confirm`.

    Raises:
      UserErrors: no run is there, or one with own pieces that are not there.
    """
    design = _read_design(workdir)
    _refuse_absent_pieces(workdir, design)
    entry = design["experiment"]
    arms = {name: Arm(**arm) for name, arm in entry["arms"].items()}
    seeds, changed = tuple(entry["seeds"]), tuple(entry.get("changed", ()))
    experiment = Experiment(**{**entry, "arms": arms, "seeds": seeds, "changed": changed})
    config, resolved = _tuples(design["config"]), _tuples(design["arms"])
    wrong = [*check_metric(experiment.metric), *check_design(experiment)]
    for values in (config, *(resolved[name] for name in arms)):
        wrong = wrong or validate(values)
    if wrong:
        raise UserErrors([_unreadable(workdir, config["data"]["dataset"], wrong[0])])
    return experiment, config, resolved, design["seeds"]


def _unreadable(workdir: Path, dataset: str, wrong: str) -> str:
    """One line on a config that is not sound here; a person's files may only be elsewhere."""
    source = components.SOURCES[dataset] if dataset in components.SOURCES else None
    located = () if source is None else tuple(f"data.{name}:" for name in source.located)
    if located and wrong.startswith(located):
        return f"{workdir}: {wrong}; a relative path counts from the folder that you are in"
    return run_files.foreign(workdir / CONFIG, wrong)


def _read_design(workdir: Path) -> dict[str, Any]:
    design = run_files.read(workdir / CONFIG)
    if design is None:
        raise UserErrors([f"{workdir}: no {CONFIG} there; it is no run directory"])
    return design


def changed_since_declared(workdir: Path, experiment: Experiment) -> list[dict[str, Any]]:
    """What changed in the experiment since the first member trained; see `predeclared.changes`."""
    design = _read_design(workdir)
    return predeclared.changes(design.get("declared"), experiment)


def _tuples(tree: Any) -> Any:
    """JSON's lists as the tuples that config values are."""
    if isinstance(tree, dict):
        return {name: _tuples(value) for name, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree


def confirm(workdir: Path, file: str | None) -> None:
    """Loads the pieces of a run from the experiment file that the person names.

    A run directory may come from anybody, and its config.json may name any file: nothing is run but
    a file that the person names, and only if it holds what the run was made with.

    Args:
      file: the experiment file; None where the person named none.

    Raises:
      UserErrors: the run has own pieces and no file was named, or another one; or a file was named
        and the run has none.
    """
    recorded = _read_design(workdir)
    files = recorded.get("own_files", {})
    if not files:
        if file is not None:
            why = f"{workdir} was run with our pieces only; leave it out"
            raise UserErrors([f"--experiment={file}: {why}"])
        return
    if file is None:
        raise UserErrors([_name_it(workdir, files)])
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserErrors([f"--experiment={file}: no such file"])
    try:
        code = components.file_code(path)
    except (SyntaxError, ValueError) as error:
        raise UserErrors([f"--experiment={file}: is no Python ({error})"]) from None
    if code not in files.values():
        raise UserErrors([_changed(file, workdir)])
    load_experiment(path)
    found = components.adopted().get(str(path.resolve()))
    if found is None or found.pieces not in recorded.get("own_pieces", {}).values():
        raise UserErrors([_changed(file, workdir)])


def _name_it(workdir: Path, files: Iterable[str]) -> str:
    named = ", ".join(files)
    return (
        f"{workdir}: was run with a data set, model or penalty of {named}; the code of a run"
        f" directory is never run unasked: name the file by --experiment={named}"
    )


def _changed(file: str, workdir: Path) -> str:
    return (
        f"{file} has changed since {workdir} was run: its data set, model or penalty, or what they"
        " come from, is another one"
    )


def _refuse_absent_pieces(workdir: Path, design: Mapping[str, Any]) -> None:
    """Refuses a run whose own pieces are missing or have changed."""
    there = [found.pieces for found in components.adopted().values()]
    recorded = design.get("own_pieces", {})
    absent = [path for path in design.get("own_files", {}) if recorded.get(path) not in there]
    if absent:
        raise UserErrors([_name_it(workdir, absent)])


def _design(
    experiment: Experiment, config: Mapping, arms: Mapping[str, Mapping], seeds: Sequence[int]
) -> dict[str, Any]:
    own = components.adopted_of(experiment.own)
    entry = dataclasses.asdict(dataclasses.replace(experiment, own=Own()))
    del entry["own"]
    return {
        "experiment": entry,
        "own_files": {path: found.code for path, found in own.items()},
        "own_pieces": {path: found.pieces for path, found in own.items()},
        "config": plain(config),
        "arms": {name: plain(arm) for name, arm in arms.items()},
        "seeds": list(seeds),
        "bits_version": BITS_VERSION,
        "code_version": code_version(),
    }


def _refuse_other(workdir: Path, old: Mapping, new: Mapping) -> None:
    mistakes = []
    held, asked = old["experiment"]["name"], new["experiment"]["name"]
    if held != asked:
        other = f"holds experiment {held!r}, not {asked!r}; choose another --workdir"
        mistakes.append(f"{workdir} {other}")
    for name, held, asked in differing_fields(old["config"], flat(new["config"])):
        other = f"was run with {name}={held!r}, not {asked!r}; choose another --workdir"
        mistakes.append(f"{workdir} {other}")
    if mistakes:
        raise UserErrors(mistakes)


def differing_fields(old: Mapping, after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(field, value before, value now) of each field that makes another run.

    Args:
      old: a config of a config.json. after: the fields of another one by name, as JSON has them.
    """
    before, found = flat(old), []
    for name in sorted(set(before) | set(after)):
        held, asked = (values.get(name, ADDED.get(name)) for values in (before, after))
        if held != asked and may_change_results(name):
            found.append((name, held, asked))
    return found


def versions(names: Iterable[str]) -> dict[str, str]:
    """Package -> installed version."""
    from importlib import metadata

    return {name: metadata.version(name) for name in names}


def _git_commit() -> str | None:
    """The commit of the source, None outside a repository."""
    try:
        run = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=5,
            check=False,
        )
    except OSError:
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None


def read_results(workdir: Path) -> dict[str, Any]:
    """results.json of a run directory, {} where there is none yet or only a part of one."""
    return run_files.read(workdir / RESULTS, damaged_is_absent=True) or {}


def code_of(workdir: Path) -> str:
    """The version of the code that trained a run's members; reading a run needs no old code."""
    return _read_design(workdir)["code_version"]

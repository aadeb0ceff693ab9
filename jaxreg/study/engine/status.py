"""A run's state from its directory alone, damaged or not: no JAX, no lock, nothing written.

Members and the newest checkpoint are looked at without their arrays: a flipped bit in those shows
when the run goes on.
"""

import json
import os
import re
import socket
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.errors import UserErrors, one_line
from jaxreg.store import lease
from jaxreg.store.digests import is_sealed
from jaxreg.store.member_store import header_of
from jaxreg.store.paths import is_remote
from jaxreg.study.engine import run_files
from jaxreg.study.engine.goodput import MACHINE, goodput, machine_rows, sums_of

MARKS = ("config.json", "metrics.jsonl", "ledger.json", "timing.json", "members", "checkpoints")
"""What only a run leaves in a directory."""
MOST_OPENED = 5_000
"""Members whose headers are read; of more, and on object stores, only the number is known."""
COMMANDS = ("compare", "train", "claims", "counterfactual")
_STEP = re.compile(r"(\d{8,})(?:-(\d+))?")
_LOCK_BYTES = 4096


def status_of(workdir: Path) -> dict[str, Any]:
    """The directory's state, JSON-able; damaged files are listed in "damaged", one line each.

    Raises:
      UserErrors: there is no such directory, or it is none of a run.
    """
    if not workdir.is_dir():
        raise UserErrors([f"{workdir}: there is no such directory"])
    lock = _lock(workdir)
    if not any((workdir / name).exists() for name in MARKS) and lock["pid"] is None:
        raise UserErrors([f"{workdir}: is not the directory of a run: nothing of one is in it"])
    damaged: list[str] = []
    rows = machine_rows(workdir / "metrics.jsonl")
    design = _json(workdir, "config.json", damaged)
    start = next((row for row in reversed(rows) if row[MACHINE] == "start"), {})
    kind = _kind(workdir, start.get("command"), design)
    if kind in ("compare", "train") and design is None and not (workdir / "config.json").exists():
        damaged.append("config.json: is missing")
    found: dict[str, Any] = {"directory": str(workdir), "kind": kind} | _design(design, damaged)
    designed = len(found["arms"]) * len(found["seeds"])
    found |= {"lock": lock, "members": _members(workdir, rows, designed, damaged)}
    found["checkpoint"] = _checkpoint(workdir, damaged)
    found["machine"] = _machine(rows, lock["at_work"])
    found["last_sign"] = _last_sign(workdir, rows, found["checkpoint"])
    found |= _results(workdir, kind, damaged) | {"command": start.get("command")}
    _check_log(workdir, damaged)
    return found | {"state": _state(found, rows), "damaged": damaged}


def _json(workdir: Path, name: str, damaged: list[str]) -> Any:
    """A JSON object of the directory; None where it is missing or damaged, and then a line."""
    path = workdir / name
    if not path.exists():
        return None
    try:
        content = run_files.load(path)
    except (OSError, ValueError) as error:
        damaged.append(f"{name}: cannot be read: {' '.join(str(error).split())}")
        return None
    if not isinstance(content, dict):
        damaged.append(f"{name}: is no JSON object")
        return None
    return content


def _kind(workdir: Path, command: str | None, design: Mapping | None) -> str:
    """The command of this run; "run" where unknown."""
    words = (command or "").split()
    if len(words) > 1 and words[1] in COMMANDS:
        return words[1]
    if design is not None:
        experiment = design.get("experiment")
        alone = isinstance(experiment, dict) and experiment.get("name") == "train"
        return "train" if alone else "compare"
    if any((workdir / name).exists() for name in ("ledger.json", "timing.json")):
        return "claims"
    return "run"


def _design(design: Mapping | None, damaged: list[str]) -> dict[str, Any]:
    """Experiment, question, arms, seeds and steps of config.json."""
    nothing = {"experiment": None, "question": None, "arms": [], "seeds": [], "num_steps": None}
    if design is None:
        return nothing
    wrong = next(run_files.mistakes("config.json", design), None)
    if wrong is not None:
        damaged.append(f"config.json: {wrong}")
        return nothing
    experiment = design["experiment"]
    return {
        "experiment": experiment["name"],
        "question": experiment["question"],
        "arms": list(experiment["arms"]),
        "seeds": design["seeds"],
        "num_steps": design["config"]["train"]["num_steps"],
    }


def _lock(workdir: Path) -> dict[str, Any]:
    """Who holds the directory. at_work: True, False, or None where it cannot be seen from here."""
    no_process = {"at_work": False, "pid": None, "host": None, "since": None}
    path = workdir / ".lock"
    try:
        with path.open("rb") as file:
            text = file.read(_LOCK_BYTES)
        holder = json.loads(text) if text.strip(b"\0 \n") else {}
        if not holder:
            return no_process
        pid, host, since = int(holder["pid"]), str(holder["host"]), str(holder["start"])
        renewed, holds = float(holder.get("time", 0.0)), float(holder.get("seconds", 0.0))
    except FileNotFoundError:
        return no_process
    except (OSError, ValueError, KeyError, TypeError):
        return no_process  # it is being written, or is no jaxreg lock
    named = {"pid": pid, "host": host, "since": since}
    if is_remote(path):  # a lease, which states how long it holds
        return named | {"at_work": time.time() - renewed <= holds and not lease.is_dead(holder)}
    is_here = named["host"] == socket.gethostname()
    return named | {"at_work": _is_alive(path, named["pid"]) if is_here else None}


def _is_alive(path: Path, pid: int) -> bool:
    """Whether a file is locked, by the kernel's list or its process; the lock is not taken."""
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
        inode = str(os.stat(path).st_ino)
        return any(inode in word.split(":")[2:3] for word in locks.split())
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _members(
    workdir: Path, rows: Sequence[Mapping], designed: int, damaged: list[str]
) -> dict[str, Any]:
    """done: sound planned members; total: planned; stored: files; by_arm: arm -> [done, all]."""
    folder = workdir / "members"
    paths = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in paths if path.name.endswith(".npz"))
    opened = names if len(names) <= MOST_OPENED and not is_remote(folder) else []
    bad = {name: why for name in opened if (why := _member_mistake(folder / name))}
    damaged += [f"members/{name}: {why}; it counts as absent" for name, why in bad.items()]
    sound = {name.removesuffix(".npz") for name in names if name not in bad}
    plan = next((row for row in reversed(rows) if row[MACHINE] == "plan"), None)
    hashes = {hash for row in plan["arms"].values() for hash in row.values()} if plan else set()
    if plan and len(hashes) == plan["members"]:
        by_arm = {
            arm: [sum(hash in sound for hash in row.values()), len(row)]
            for arm, row in plan["arms"].items()
        }
        done, total = len(hashes & sound), len(hashes)
    else:  # without a plan: before its row, or of an older version
        done, total, by_arm = None, plan["members"] if plan else designed or None, {}
    return {"done": done, "total": total, "stored": len(sound), "by_arm": by_arm}


def _member_mistake(path: Path) -> str:
    """What is wrong with a member's file, without its arrays; "" if nothing is."""
    try:
        with zipfile.ZipFile(path) as archive:
            header, names = header_of(path.stem, archive), set(archive.namelist())
        missing = [name for name in header["arrays"] if f"{name}.npy" not in names]
        return f"it lacks the array {missing[0]!r}" if missing else ""
    except Exception as error:  # a damaged file raises whatever its reader raises
        return one_line(error)


def _checkpoint(workdir: Path, damaged: list[str]) -> dict[str, Any] | None:
    """The newest checkpoint whose manifest is sound, None without one."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    steps = sorted(
        ((int(m[1]), int(m[2] or 0), m[0]) for name in names if (m := _STEP.fullmatch(name))),
        reverse=True,
    )
    for _, _, name in steps:
        try:
            manifest = json.loads((folder / name / "manifest" / "metadata").read_bytes())
            if not is_sealed(manifest, "sha256"):
                raise ValueError("its manifest does not match its digest")
            if not (folder / name / "leaves").is_dir():
                raise ValueError("its arrays are missing")
            meta = manifest["meta"]
            saved = (folder / name / "manifest" / "metadata").stat().st_mtime
            members = len(meta["members"])
            return {"name": name, "saved": saved, "step": meta["step"], "members": members}
        except (OSError, ValueError, KeyError, TypeError) as error:
            missing = isinstance(error, FileNotFoundError)
            why = "its manifest is missing" if missing else one_line(error)
            damaged.append(f"checkpoints/{name}: {why}; the one before it is used")
    return None


def _last_sign(workdir: Path, rows: Sequence[Mapping], checkpoint: Mapping | None) -> float | None:
    """Time of the last write of a machine row, a member or a checkpoint; None without any."""
    signs = [row["time"] for row in rows[-1:]] + ([checkpoint["saved"]] if checkpoint else [])
    if (workdir / "members").is_dir() and not is_remote(workdir):
        signs.append((workdir / "members").stat().st_mtime)
    return max(signs, default=None)


def _machine(rows: Sequence[Mapping], at_work: bool | None) -> dict[str, Any]:
    """Speed, what is under way, what is left, goodput."""
    sums = sums_of(rows)
    last = next((row for row in reversed(rows) if row[MACHINE] in ("work", "end")), {})
    speed, is_mean = _speed(rows)
    left = last.get("seconds_left")
    if left is not None and at_work:
        left = max(0.0, left - (time.time() - last["time"]))
    return {
        "done": last.get("done"),
        "total": last.get("total"),
        "under_way": last.get("members"),
        "step": last.get("step"),
        "model_steps_per_second": speed[0],
        "step_seconds": speed[1],
        "speed_is_mean": is_mean,
        "memory_bytes": last.get("memory_bytes"),
        "memory_source": last.get("memory_source"),
        "seconds_left": left,
        "goodput": round(goodput(sums.kept, sums.wall), 4) if sums.wall else None,
        "wall_seconds": round(sums.wall, 3),
        "kept_seconds": round(sums.kept, 3),
        "lost_seconds": round(sums.lost, 3),
        "idle_seconds": round(sums.idle, 3),
        "processes": sums.processes,
        **_reading(last),
    }


def _speed(rows: Sequence[Mapping]) -> tuple[tuple[float | None, float | None], bool]:
    """Model-steps per second and seconds a step, and whether they are a whole process's mean.

    Of a process that ended its mean, as its closing line says; else of the last row.
    """
    for row in reversed(rows):
        for prefix in ("mean_", ""):
            names = (f"{prefix}model_steps_per_second", f"{prefix}step_seconds")
            if all(name in row for name in names):
                return (row[names[0]], row[names[1]]), bool(prefix)
    return (None, None), False


def _reading(last: Mapping) -> dict[str, float]:
    """Tokens and FLOP per second, MFU, and the share of training that waited for data: what a row
    has of them.
    """
    found = {
        name: last[name] for name in ("tokens_per_second", "flop_per_second", "mfu") if name in last
    }
    if "data_seconds" in last and last["training_seconds"]:
        found["data_wait"] = round(last["data_seconds"] / last["training_seconds"], 4)
    return found


def _results(workdir: Path, kind: str, damaged: list[str]) -> dict[str, Any]:
    """Whether results and a report are there; of a ledger how many claims are done."""
    if kind == "claims":
        ledger = _json(workdir, "ledger.json", damaged)
        page, claims = workdir / "ledger.html", None
        if ledger is not None and isinstance(ledger.get("claims"), list):
            rows = [claim for claim in ledger["claims"] if isinstance(claim, dict)]
            own = [claim for claim in rows if claim.get("form") == "experiment"]
            done = sum(claim.get("status") == "done" for claim in own)
            claims = {"done": done, "total": len(own)}
        report = str(page) if page.exists() else None
        return {"has_results": ledger is not None, "claims": claims, "report": report}
    if kind not in ("compare", "train"):  # it keeps its results elsewhere
        return {"has_results": True, "claims": None, "report": None}
    page, has_results = workdir / "report.html", _json(workdir, "results.json", damaged) is not None
    report = str(page) if page.exists() else None
    return {"has_results": has_results, "claims": None, "report": report}


def _check_log(workdir: Path, damaged: list[str]) -> None:
    """Lines of metrics.jsonl that are not JSON, but for an unfinished last one (after a kill)."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        damaged.append(f"metrics.jsonl: cannot be read: {error.strerror}")
        return
    bad = [number for number, line in enumerate(lines, start=1) if not _is_object(line)]
    if bad:
        more = f", and {len(bad) - 1} more" if bad[1:] else ""
        damaged.append(f"metrics.jsonl: line {bad[0]} is not a JSON object{more}")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _state(found: Mapping, rows: Sequence[Mapping]) -> str:
    """In a few words: running, done, interrupted, failed, killed, stopped."""
    if found["lock"]["at_work"]:
        return "running"
    if found["lock"]["at_work"] is None:
        return "unknown: a process on another host named itself here"
    if found["lock"]["pid"] is not None:  # who ends in any other way takes its name away
        return f"killed: process {found['lock']['pid']} ended without a word"
    if not rows:
        if found["has_results"] and found["kind"] in ("compare", "train", "claims"):
            return "done"
        return "stopped"
    ends = [row for row in rows if row[MACHINE] == "end" and row["process"] == rows[-1]["process"]]
    if not ends:
        return "killed: the last process ended without a word"
    if ends[-1]["outcome"] == "done" and not found["has_results"]:
        return "stopped: its results are missing"
    return ends[-1]["outcome"] + (f": {ends[-1]['detail']}" if ends[-1].get("detail") else "")

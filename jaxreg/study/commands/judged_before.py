"""What was judged before: how many runs a question was asked with, in a small file beside them.

A person who adds seeds until a difference is significant finds differences that are not there. The
file lets the next judgement warn of it. For `runs.csv` it is `.runs.csv.judged.json` in the same
folder, for several files `.judged.json` in the folder that holds all of them. It has the questions
(baseline, view, direction, claim) and the numbers of runs of each arm, no scores; deleting it loses
nothing else.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.study.analysis.runs import Question, Runs

WHAT = (
    "jaxreg judge: how many runs each question was asked with, to warn where runs are added until a"
    " difference is significant; --no_memory leaves it out, and it may be deleted"
)
_MOST = 100
"""Numbers of runs that are kept for a question."""


def place(paths: Sequence[str]) -> Path | None:
    """Where it is kept; None where nothing is: for the standard input."""
    if not paths or "-" in paths:
        return None
    files = [Path(path).expanduser().absolute() for path in paths]
    if len(files) == 1:
        return files[0].with_name(f".{files[0].name}.judged.json")
    return Path(os.path.commonpath([file.parent for file in files])) / ".judged.json"


def remember(path: Path, runs: Runs, question: Question) -> str | None:
    """Notes the numbers of runs; a warning where the question was asked with fewer before.

    Args:
      path: of `place`. Where it cannot be read or written, nothing is noted.
      runs, question: what is judged now.
    """
    asked = _asked(question)
    numbers = {arm: len(seeds) for arm, seeds in runs.seeds.items()}
    entries = _read(path)
    entry = next((each for each in entries if each["asked"] == asked), None)
    if entry is None:
        entry = {"asked": asked, "runs": []}
        entries.append(entry)
    fewer = [before for before in entry["runs"] if _is_fewer(before, numbers)]
    if numbers not in entry["runs"]:
        entry["runs"] = [*entry["runs"], numbers][-_MOST:]
        _write(path, entries)
    return _warning(fewer, numbers) if fewer and question.looks == 1 else None


def note(path: Path) -> str:
    """A line on the file, for the command that makes it."""
    return (
        f"{path.name}, beside the input, remembers how many runs were judged, to warn where runs"
        " are added until a difference is significant (--no_memory leaves it out)"
    )


def _asked(question: Question) -> dict[str, Any]:
    """What makes it the same question; another margin or alpha is no other question."""
    return {
        "baseline": question.baseline,
        "primary": question.primary,
        "higher_is_better": question.higher_is_better,
        "claim": question.claim,
    }


def _is_fewer(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    both = [arm for arm in before if arm in now]
    return any(before[arm] < now[arm] for arm in both) and all(
        before[arm] <= now[arm] for arm in both
    )


def _warning(fewer: Sequence[Mapping[str, int]], now: Mapping[str, int]) -> str:
    times = "once" if len(fewer) == 1 else f"{len(fewer)} times"
    last = fewer[-1]
    grown = [f"{arm} {last[arm]}, now {now[arm]}" for arm in last if last[arm] < now.get(arm, 0)]
    shown = "; ".join(grown[:3]) + (f"; and {len(grown) - 3} more arms" if len(grown) > 3 else "")
    return (
        f"This question was asked {times} before with fewer runs ({shown}). Adding runs until a"
        " difference is significant finds differences that are not there: plan the looks"
        " beforehand, with --looks."
    )


def _read(path: Path) -> list[dict[str, Any]]:
    """The questions of the file; none where it is not there, or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    entries = found.get("questions") if isinstance(found, dict) else None
    return [entry for entry in entries if _is_whole(entry)] if isinstance(entries, list) else []


def _is_whole(entry: Any) -> bool:
    """Whether an entry has the form that is written."""
    if not (isinstance(entry, dict) and isinstance(entry.get("asked"), dict)):
        return False
    runs = entry.get("runs")
    return isinstance(runs, list) and all(
        isinstance(each, dict) and all(isinstance(number, int) for number in each.values())
        for each in runs
    )


def _write(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    from jaxreg.store.atomic import to_json, write_bytes

    content = to_json({"what": WHAT, "questions": list(entries)}, indent=1)
    with contextlib.suppress(OSError):
        write_bytes(path, content.encode("utf-8"))

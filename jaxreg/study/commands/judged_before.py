"""What was judged before: with how many runs, and by which choices, in a small file beside them.

A person who adds seeds until a difference is significant finds differences that are not there, and
so does one who tries margins, or ways to count lost runs. The file lets the next judgement warn of
it. For `runs.csv` it is `.runs.csv.judged.json` in the same
folder, for several files `.judged.json` in the folder that holds all of them. It has the questions
(baseline, view, direction, claim), the numbers of runs of each arm, the margins, and what runs
without a score counted as, no scores; deleting it loses nothing else.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.study.analysis.runs import Question, Runs

WHAT = (
    "jaxreg judge: with how many runs and which margin each question was asked, and what lost runs"
    " counted as, to warn where they are changed until a difference is significant; --no_memory"
    " leaves it out, and it may be deleted"
)
_MOST = 100
"""Numbers of runs, and choices, that are kept for a question."""
_CHOICES = {"margin": "margin", "diverged": "--diverged"}
"""What may be chosen after a look at the runs -> how the warning calls it."""


def place(paths: Sequence[str]) -> Path | None:
    """Where it is kept; None where nothing is: for the standard input."""
    if not paths or "-" in paths:
        return None
    files = [Path(path).expanduser().absolute() for path in paths]
    if len(files) == 1:
        return files[0].with_name(f".{files[0].name}.judged.json")
    return Path(os.path.commonpath([file.parent for file in files])) / ".judged.json"


def remember(path: Path, runs: Runs, question: Question) -> tuple[str, ...]:
    """Notes the numbers of runs, margin and treatment of lost runs; warns where they have changed.

    Args:
      path: of `place`. Where it cannot be read or written, nothing is noted.
      runs, question: what is judged now.

    Returns:
      A warning where the question was asked with fewer runs before, and one where it was asked with
      another margin or another treatment of lost runs.
    """
    asked = _asked(question)
    numbers = {arm: len(seeds) for arm, seeds in runs.seeds.items()}
    entries = _read(path)
    entry = next((each for each in entries if each["asked"] == asked), None)
    if entry is None:
        entry = {"asked": asked, "runs": []}
        entries.append(entry)
    fewer = [before for before in entry["runs"] if _is_fewer(before, numbers)]
    choices, choice = _choices(entry), _choice(runs, question)
    if numbers not in entry["runs"] or choice not in choices:
        others = [each for each in entry["runs"] if each != numbers]
        entry["runs"] = [*others, numbers][-_MOST:]
        entry["choices"] = [*(each for each in choices if each != choice), choice][-_MOST:]
        _write(path, entries)
    found = [_warning(fewer, numbers)] if fewer and question.looks == 1 else []
    return (*found, *_changed(choices, choice))


def note(path: Path) -> str:
    """A line on the file, for the command that makes it."""
    return (
        f"{path.name}, beside the input, remembers how many runs were judged and by which margin,"
        " to warn where they are changed until a difference is significant (--no_memory leaves it"
        " out)"
    )


def _asked(question: Question) -> dict[str, Any]:
    """What makes it the same question; another margin, --diverged or alpha makes no other one."""
    return {
        "baseline": question.baseline,
        "primary": question.primary,
        "higher_is_better": question.higher_is_better,
        "claim": question.claim,
    }


def _choice(runs: Runs, question: Question) -> dict[str, Any]:
    """What may be changed after a look at the runs; without lost runs nothing is chosen of them."""
    rows = [row[question.primary] for row in runs.scores.values()]
    is_lost = not all(np.isfinite(values).all() for values in rows)
    found = {"margin": question.margin, "diverged": question.diverged if is_lost else None}
    return {name: value for name, value in found.items() if value is not None}


def _choices(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The choices of an entry, the last one last; none in a file of an earlier version."""
    found = entry.get("choices")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _changed(choices: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> list[str]:
    """A line where another choice was made before; [] where there was none."""
    parts = []
    for name, called in _CHOICES.items():
        values = dict.fromkeys(_word(each[name]) for each in choices if name in each)
        others = [text for text in values if name in now and text != _word(now[name])]
        if others:
            parts.append(f"another {called} ({', '.join(others[-3:])}; now {_word(now[name])})")
    if not parts:
        return []
    return [
        f"This question was judged before with {' and '.join(parts)}. Verdicts depend on it: choose"
        " it before the runs are looked at."
    ]


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


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

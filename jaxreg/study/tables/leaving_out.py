"""Arms that are left out of a table, as asked by `--without`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxreg.errors import nearest
from jaxreg.study.analysis.runs import Runs


def named(text: str | None, arms: Sequence[str]) -> list[str]:
    """The names in a list with commas; a name that has commas itself is one name.

    Args:
      text: "a,b", or None for none.
      arms: all that there are.
    """
    parts, found = (text or "").split(","), []
    while text and parts:
        sizes = range(len(parts), 0, -1)
        size = next((n for n in sizes if ",".join(parts[:n]).strip() in arms), 1)
        found.append(",".join(parts[:size]).strip())
        parts = parts[size:]
    return list(dict.fromkeys(found))


def without(
    runs: Runs, said: dict[str, Any], text: str | None, baseline: str | None, mistakes: list[str]
) -> tuple[Runs, dict[str, Any]]:
    """(runs, what the input says of the question), without the arms named, and with a warning.

    Args:
      runs, said: as read.
      text: the names with commas; None: all arms stay.
      baseline: which cannot be left out; None: the input's own.
      mistakes: gets a line for each name that is no arm, or the baseline.
    """
    wrong, names = [], named(text, runs.arms)
    for name in names:
        if name not in runs.arms:
            wrong.append(f"--without={name}: there is no such arm{nearest(name, runs.arms)}")
        elif name == (baseline or said.get("baseline")):
            wrong.append(f"--without={name}: is the baseline, which all others are compared with")
    mistakes += wrong
    if wrong or not names:
        return runs, said
    left = {arm: row for arm, row in runs.scores.items() if arm not in names}
    line = f"left out of the comparison, as asked: {', '.join(names)}"
    seeds = {arm: runs.seeds[arm] for arm in left}
    warnings = (*runs.warnings, line)
    runs = dataclasses.replace(runs, seeds=seeds, scores=left, warnings=warnings)
    if said.get("aa") in names:
        said = {key: value for key, value in said.items() if key != "aa"}
    if "known" in said:
        said = said | {"known": tuple(arm for arm in said["known"] if arm not in names)}
    return runs, said

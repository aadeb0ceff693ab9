"""What a claim declares before its first verdict member trains; see `study.design.predeclared`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxreg.errors import UserErrors
from jaxreg.study.claims.claim import Claim
from jaxreg.study.design import predeclared

DECLARATIONS = "declarations.json"
FIELDS = ("margin", "predict", "kind", "direction")
"""Of a question: what decides its verdict, or what it is held against."""


def read(workdir: Path) -> dict[str, Any]:
    """Claim id -> what was declared, {} where nothing is kept yet.

    Raises:
      UserErrors: the file is damaged.
    """
    path = workdir / DECLARATIONS
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict) or not all(
        isinstance(each, dict) and isinstance(each.get("questions"), dict) for each in kept.values()
    ):
        raise UserErrors(
            [
                f"{path} is damaged: put it back, or remove it; then what the claims say now counts"
                " as declared"
            ]
        )
    return kept


def declaration(claim: Claim) -> dict[str, Any]:
    """The declaration: the prediction; each question's margin, prediction, kind, direction."""
    return {
        "prediction": claim.prediction,
        "questions": {
            question.name: {name: vars(question)[name] for name in FIELDS}
            for question in claim.questions
        },
    }


def changes(declared: Mapping[str, Any] | None, claim: Claim) -> list[dict[str, Any]]:
    """One {"field", "declared", "now"} per changed value, new or removed question; [] if none."""
    if declared is None:
        return []
    now = declaration(claim)
    asked, before = now["questions"], declared["questions"]
    found = predeclared.differences(declared, now, ("prediction",))
    for name in dict.fromkeys([*before, *asked]):
        if name in asked and name in before:
            found += predeclared.differences(before[name], asked[name], FIELDS, f"{name}: ")
        else:
            found.append(
                {
                    "field": f"question {name!r}",
                    "declared": "asked" if name in before else "not asked",
                    "now": "asked" if name in asked else "not asked",
                }
            )
    return found

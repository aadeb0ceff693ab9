"""What a claim declares before its first member on a verdict seed trains, kept in the ledger's
directory; see `study.design.predeclared`.
"""

from collections.abc import Mapping
from typing import Any

from jaxreg.study.claims.claim import Claim
from jaxreg.study.design import predeclared

DECLARATIONS = "declarations.json"
FIELDS = ("margin", "predict", "kind", "direction")
"""Of a question: what decides its verdict, or what it is held against."""


def declaration(claim: Claim) -> dict[str, Any]:
    """What is declared: the prediction in words, and each question's margin, prediction, kind and
    direction.
    """
    return {
        "prediction": claim.prediction,
        "questions": {
            question.name: {name: vars(question)[name] for name in FIELDS}
            for question in claim.questions
        },
    }


def changes(declared: Mapping[str, Any] | None, claim: Claim) -> list[dict[str, Any]]:
    """One {"field", "declared", "now"} for each value that is no longer what was declared, and for
    each question that came or went; [] where nothing changed or nothing was recorded.
    """
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

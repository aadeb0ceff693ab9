"""The report of a study as one HTML file that opens offline.

A page is a template, style sheets and scripts of `web/`, put together with the numbers as JSON:
`web/shared` has what every page uses, one more folder what is only its own. Nothing is fetched: a
content security policy in the page forbids it. All text reaches the page through JSON and
`textContent`, so a sentence cannot become markup.
"""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.store.atomic import plain
from jaxreg.study.report import verdict_styles

WEB = Path(__file__).with_name("web")

# In this order: what is used below stands above.
SHARED_SCRIPTS = ("dom.js", "format.js", "model.js", "tooltip.js", "rows.js", "save.js")
SCRIPTS = (
    "metric.js",
    "opening.js",
    "table.js",
    "forest.js",
    "curves.js",
    "pathways.js",
    "mass.js",
    "matrix_drawing.js",
    "matrices.js",
    "edges.js",
    "counterfactual.js",
    "flipped.js",
    "predictions.js",
    "closing.js",
    "start.js",
)

DIGITS = 6
"""Significant digits of a float in a page: enough for accuracies, and half the file of all."""

_SLOT = re.compile(r"<!--slot:(\w+)-->")


def render(payload: Mapping[str, Any]) -> str:
    """The whole page, as one HTML document.

    The same payload gives the same text, byte for byte.

    Args:
      payload: what the page shows: accuracies and probabilities as fractions of 1, seconds for
        times. Numpy scalars and arrays are allowed. NaN and infinities become null, which the page
        shows as a dash.

    Returns:
      HTML that needs no other file and no network.

    Raises:
      TypeError: a value that JSON has no form for.
    """
    title = html.escape(str(payload["title"]))
    return assemble("report", SCRIPTS, payload, title, answer=_answer(payload))


def assemble(
    folder: str,
    scripts: Sequence[str],
    payload: Mapping[str, Any],
    title: str = "",
    *,
    answer: str = "",
    digits: int = DIGITS,
) -> str:
    """A page of `web/<folder>`: its template with the shared and its own styles and scripts.

    Args:
      folder: holds <folder>.html and, if it has styles of its own, <folder>.css.
      scripts: of the folder, in the order in which they use one another.
      payload: what the page shows, see `embed_json`. title: escaped already.
      answer: HTML for readers without JavaScript, escaped already.
      digits: significant ones of every float.
    """
    shared, own = WEB / "shared", WEB / folder
    styles = [shared / "page.css", *own.glob("*.css")]
    code = [*(shared / name for name in SHARED_SCRIPTS), *(own / name for name in scripts)]
    slots = {
        "title": title,
        "answer": answer,
        "css": verdict_styles.css() + _joined(styles),
        "payload": embed_json(payload, digits),
        "js": verdict_styles.script() + _joined(code),
    }
    # One pass: what is put in is not searched again, so a sentence that looks like a slot stays a
    # sentence.
    return _SLOT.sub(lambda match: slots[match[1]], _joined([own / f"{folder}.html"]))


def _answer(payload: Mapping[str, Any]) -> str:
    """Question and answer as HTML, for readers without JavaScript."""
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in payload.get("headline") or ())
    return f"<h1>{html.escape(str(payload.get('question', '')))}</h1><ul>{lines}</ul>"


def _joined(paths: Sequence[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def embed_json(value: Any, digits: int = DIGITS) -> str:
    """`value` as JSON that may stand inside a `<script>` element.

    Every `<` is written as an escape, so neither `</script>` nor `<!--` can occur.

    Args:
      value: NaN and infinities become null. digits: significant ones of every float.

    Raises:
      TypeError: a value that JSON has no form for.
    """

    def shown(number: float) -> float | None:
        return float(f"{number:.{digits}g}") if math.isfinite(number) else None

    text = json.dumps(
        plain(value, number=shown), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

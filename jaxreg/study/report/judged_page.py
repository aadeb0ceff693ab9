"""verdict.html: what the judge found as one page that opens offline, by the machinery of `page`."""

import html
from collections.abc import Mapping
from typing import Any

from jaxreg.study.report import judged_text, page

SCRIPTS = ("amounts.js", "opening.js", "table.js", "forest.js", "runs.js", "words.js", "start.js")

DIGITS = 17
"""Significant digits, all of them: scores have any unit, and the page rounds as the texts do."""


def render(shown: Mapping[str, Any]) -> str:
    """The page, as one HTML document; the same content gives the same text, byte for byte.

    Args:
      shown: of `judged_content.content`.
    """
    payload = {
        **shown,
        "seeds": [],
        "paragraph": judged_text.paragraph(shown),
        "markdown": judged_text.markdown(shown),
    }
    return page.assemble(
        "verdict", SCRIPTS, payload, html.escape(str(shown["title"])), digits=DIGITS
    )

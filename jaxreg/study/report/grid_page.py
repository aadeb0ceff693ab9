"""grid.html: the pictures and the table of a grid as one page that opens offline."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.study.report import page

SCRIPTS = ("start.js",)


def render(
    contents: Mapping[str, Any],
    picture: bytes | None,
    law_picture: bytes | None,
    command: str,
    lines: Sequence[str],
) -> str:
    """The page, as one HTML document.

    Args:
      contents: of grid.json.
      picture: the map as an SVG, None while no cell is done. law_picture: of the law, None while it
        is not tested.
      command: that made it. lines: how the law did, in words.
    """
    arms = [{"name": name, "title": text} for name, text in contents["arms"].items()]
    pictures = {"picture": _text(picture), "law_picture": _text(law_picture)}
    payload = {**contents, "arms": arms, **pictures, "command": command, "lines": list(lines)}
    title = html.escape(str(contents["question"]))
    return page.assemble("grid", SCRIPTS, payload, title)


def _text(picture: bytes | None) -> str | None:
    return None if picture is None else base64.b64encode(picture).decode()

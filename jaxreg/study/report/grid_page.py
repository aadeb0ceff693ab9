"""grid.html: the picture and the table of a grid as one page that opens offline."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.study.report import page

SCRIPTS = ("start.js",)


def render(
    contents: Mapping[str, Any], picture: bytes | None, command: str, lines: Sequence[str]
) -> str:
    """The page, as one HTML document.

    Args:
      contents: of grid.json. picture: the PNG, None while no cell is done.
      command: that made it. lines: how the law did, in words.
    """
    shown = None if picture is None else base64.b64encode(picture).decode()
    arms = [{"name": name, "title": text} for name, text in contents["arms"].items()]
    payload = {**contents, "arms": arms, "picture": shown, "command": command, "lines": list(lines)}
    title = html.escape(str(contents["question"]))
    return page.assemble("grid", SCRIPTS, payload, title)

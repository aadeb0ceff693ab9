"""How each verdict looks: on the pages, in the pictures and in the terminal. The one table.

The colors can be told apart with any kind of color vision (after Okabe and Ito 2008, "Color
universal design"); a symbol and the verdict's own words always stand beside them.
"""

import json
from typing import NamedTuple


class VerdictStyle(NamedTuple):
    """A kind of verdict: text start, CSS class, symbol, light and dark colors, `rich` style."""

    start: str
    key: str
    symbol: str
    light: str
    dark: str
    terminal: str


VERDICT_STYLES = (
    VerdictStyle("supported", "supported", "▲", "#0067a3", "#62b4ec", "green"),
    VerdictStyle("refuted: opposite", "opposite", "▼", "#b84300", "#ff925c", "red"),
    VerdictStyle("refuted: negligible", "negligible", "◆", "#8a6100", "#e2b23c", "red"),
    VerdictStyle("inconclusive", "inconclusive", "○", "#6b7480", "#97a1ad", "yellow"),
    VerdictStyle("not testable", "untestable", "×", "#6b7480", "#97a1ad", ""),
)
"""The first whose `start` a verdict begins with counts."""


def style_of(verdict: str | None) -> VerdictStyle:
    """The style of a verdict; that of "not testable" for anything else."""
    return next(
        (style for style in VERDICT_STYLES if (verdict or "").startswith(style.start)),
        VERDICT_STYLES[-1],
    )


def css() -> str:
    """The colors as custom properties, `--supported` and so on, for light and dark paper."""
    light, dark = (
        " ".join(f"--{style.key}: {color};" for style, color in zip(VERDICT_STYLES, colors))
        for colors in (
            [style.light for style in VERDICT_STYLES],
            [style.dark for style in VERDICT_STYLES],
        )
    )
    return (
        f":root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


def script() -> str:
    """The table for the pages' scripts: `const VERDICTS = [{start, key, symbol}, ...];`."""
    rows = [{"start": s.start, "key": s.key, "symbol": s.symbol} for s in VERDICT_STYLES]
    return f"const VERDICTS = {json.dumps(rows, ensure_ascii=False)};\n"

"""The pages of the documentation: their code blocks, commands and links."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [
        body for kind, body in re.findall(r"```(\w+)\n(.*?)```", page, re.S) if kind == language
    ]


def shell_lines(page: str) -> list[str]:
    """The lines of its shell blocks."""
    return [line for body in blocks(page, "bash") for line in body.strip().splitlines()]


def commands(page: str) -> list[str]:
    """The lines of its shell blocks that are jaxreg commands."""
    return [line for line in shell_lines(page) if line.startswith("jaxreg ")]


def dead_links(path: Path) -> list[str]:
    """The links of a page to files that do not exist, or to headings that a page does not have."""
    page, dead = path.read_text(encoding="utf-8"), []
    for target in re.findall(r"\]\(([^)\s]+)\)", page):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name) if name else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            dead.append(target)
    return dead


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}

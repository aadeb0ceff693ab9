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


def sentences(page: str) -> list[str]:
    """The sentences of a page's prose, and what colons and semicolons part in them.

    Front matter, code, tables, headings and directives are no prose.
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", page, flags=re.S)
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^(#|\||    |<).*$", "", text, flags=re.M)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"\n\s*\n|\n\s*[-*] |\n\s*\d+\. ", text)
    found = [each for part in parts for each in re.split(r"(?<=[.!?;:])\s+", part.strip())]
    return [each for each in found if len(each.split()) > 2]


def words(sentence: str) -> int:
    """How many words a sentence has."""
    return len(re.findall(r"\w[\w'’.-]*", sentence))

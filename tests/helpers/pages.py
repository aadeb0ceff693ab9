"""The pages of the documentation: their code blocks, commands and links."""

import importlib
import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from jaxreg.cli import arguments, main
from jaxreg.study.design import config_fields

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [
        body for kind, body in re.findall(r"```(\w+)\n(.*?)```", page, re.S) if kind == language
    ]


def shell_lines(page: str) -> list[str]:
    """The lines of its shell blocks; a backslash at its end joins a line with the next."""
    bodies = (re.sub(r"\\\n\s*", "", body.strip()) for body in blocks(page, "bash"))
    return [line for body in bodies for line in body.splitlines()]


def commands(page: str) -> list[str]:
    """The lines of its shell blocks that are jaxreg commands."""
    return [line for line in shell_lines(page) if line.startswith("jaxreg ")]


def all_shell_lines(page: str) -> list[str]:
    """The lines of its shell blocks and of its indented ones; a backslash joins two lines."""
    prose = re.sub(r"```.*?```", "", page, flags=re.S)
    indented = re.sub(r"\\\n\s*", "", "\n".join(re.findall(r"^    (\S.*)$", prose, re.M)))
    return [*shell_lines(page), *indented.splitlines()]


def wrong_commands(page: str) -> list[str]:
    """Lines for commands that are no more: of jaxreg with unknown flags or fields, of python with
    scripts or modules that are not there.
    """
    wrong = []
    for line in all_shell_lines(page):
        found = re.match(r"(?:\w+=\S+ )*(?:\S*/)?(jaxreg|python3?) (.+)", line)
        if found is None:
            continue
        program, words = found[1], shlex.split(found[2].split(" | ")[0], comments=True)
        if program == "jaxreg":
            wrong += [f"{line}: {each}" for each in _wrong_in(words)]
        elif words[0] == "-m":
            wrong += [line] if importlib.util.find_spec(words[1]) is None else []
        elif words[0].endswith(".py"):
            wrong += [] if (ROOT / words[0]).exists() else [line]
    return wrong


def _wrong_in(words: list[str]) -> list[str]:
    """What a jaxreg command says about its own words, without running."""
    if words[0] not in main.COMMANDS:
        return [f"there is no command {words[0]}"]
    given = arguments.read(main.COMMANDS[words[0]][0], words[1:])
    known = config_fields.fields_of("", None)
    fields = [each.partition("=")[0] for each in given.overrides]
    return [*given.mistakes, *(f"no field {name}" for name in fields if name not in known)]


def unknown_names(page: str) -> list[str]:
    """Names `jaxreg.x.y` in the page's inline code that are nowhere."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.S))
    names = [name for span in spans for name in re.findall(r"(?<![\w/.])jaxreg(?:\.\w+)+", span)]
    return [name for name in dict.fromkeys(names) if not _exists(name)]


def _exists(dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for name in parts[count:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


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


def reading_ease(found: list[str], syllables: Callable[[str], int]) -> float:
    """Flesch's reading ease of sentences (1948): 60 to 70 is plain English, 30 an academic paper.

    Numbers and symbols are no words.
    """
    read = [word for sentence in found for word in re.findall(r"[A-Za-z][A-Za-z'’]*", sentence)]
    per_word = sum(map(syllables, read)) / len(read)
    return 206.835 - 1.015 * len(read) / len(found) - 84.6 * per_word

"""The operations that a loop of a compiled program starts one after the other, from its HLO."""

import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPCODE = re.compile(r" = .*? ([a-z][a-z0-9\-]*)\(")
_ONE_NUMBER = re.compile(r" = \w+\[[1,]*\]")
_CALLED = re.compile(
    r"(?:body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
    r"|branch_computations=\{([^}]*)\}"
)
_CALLS = ("while", "call", "conditional")
_FREE = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"}
    | {"copy-done", "async-done", "fusion-done", "opt-barrier", *_CALLS}
)
"""Opcodes that start nothing by themselves."""


def operations(hlo: str, depth: int) -> int:
    """How many operations one turn of a loop starts; loops inside it count once.

    A fusion is one operation, arithmetic on a single number none.

    Args:
      hlo: `as_text()` of a compiled program.
      depth: of the loop: 1 is the outermost one. Of several the largest is taken; where there is
        none the next one outside, at last the whole program.
    """
    computations, entry = _computations(hlo)
    inside = entry
    for _ in range(depth):
        bodies = [name for names in _calls(computations[inside], ("while",)) for name in names]
        inside = max(bodies, key=lambda name: _count(computations, name), default=inside)
    return _count(computations, inside)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """(the lines of each computation, by name; the name of the first one to run)."""
    found: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in hlo.splitlines():
        begins = _COMPUTATION.match(line)
        if begins:
            lines = found.setdefault(begins[2], [])
            entry = begins[2] if begins[1] else entry
        else:
            lines.append(line)
    return found, entry


def _calls(lines: list[str], opcodes: tuple[str, ...]) -> Iterator[list[str]]:
    """For each instruction of these opcodes the computations that it runs."""
    for line in lines:
        opcode = _OPCODE.search(line)
        if opcode is not None and opcode[1] in opcodes:
            named = (one or several for one, several in _CALLED.findall(line))
            yield [name.strip(" %") for each in named for name in each.split(",")]


def _count(computations: dict[str, list[str]], name: str) -> int:
    """The operations of a computation and of all that it runs, each once."""
    todo, seen, count = [name], {name}, 0
    while todo:
        lines = computations[todo.pop()]
        count += sum(map(_is_operation, lines))
        called = {other for names in _calls(lines, _CALLS) for other in names} - seen
        todo += called
        seen |= called
    return count


def _is_operation(line: str) -> bool:
    opcode = _OPCODE.search(line)
    if opcode is None or opcode[1] in _FREE:
        return False
    return opcode[1] in ("fusion", "custom-call") or not _ONE_NUMBER.search(line)

"""Types of config fields: each checks, parses and stores values, and describes what it accepts."""

import ast
import dataclasses
from collections.abc import Callable
from math import inf, isfinite, isnan
from typing import Any


class _Plain:
    """A field whose allowed values are kept as they are."""

    def canonical(self, value: Any) -> Any:
        """The one form in which an allowed value is kept."""
        return value


@dataclasses.dataclass(frozen=True)
class Whole(_Plain):
    """A whole number from `minimum` to `maximum`."""

    unit: str
    minimum: int = 0
    maximum: int | None = None
    absent: bool = False

    def allows(self, value: Any) -> bool:
        """True if the value is an int in the range."""
        if value is None:
            return self.absent
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        maximum = inf if self.maximum is None else self.maximum
        return is_whole and self.minimum <= value <= maximum

    def parse(self, text: str) -> Any:
        """The number, or the unchanged text where it is none (`allows` is then False)."""
        return None if self.absent and _is_none(text) else _converted(int, text)

    def __str__(self) -> str:
        limit = f"{self.minimum} {'or more' if self.maximum is None else f'to {self.maximum}'}"
        return f"a whole number of {self.unit}, {limit}{', or None' if self.absent else ''}"


@dataclasses.dataclass(frozen=True)
class Real:
    """A number in [minimum, maximum).

    `above` excludes the minimum and `closed` includes the maximum; inf is allowed where `off`, None
    where `absent`.
    """

    what: str
    minimum: float = 0.0
    maximum: float = inf
    above: bool = False
    off: bool = False
    absent: bool = False
    closed: bool = False

    def allows(self, value: Any) -> bool:
        """True if the value is in the range; NaN never is."""
        if value is None:
            return self.absent
        if isinstance(value, bool) or not isinstance(value, int | float) or isnan(value):
            return False
        if not isfinite(value):
            return self.off and value > 0
        below = value <= self.maximum if self.closed else value < self.maximum
        return below and (value > self.minimum if self.above else value >= self.minimum)

    def parse(self, text: str) -> Any:
        """The number, None for the word, or the text as it is where it is neither."""
        return None if _is_none(text) else _converted(float, text)

    def canonical(self, value: Any) -> Any:
        """A float or None: 0 and 0.0 must not be two configs."""
        return None if value is None else float(value)

    def __str__(self) -> str:
        low = f"above {self.minimum:g}" if self.above else f"at least {self.minimum:g}"
        high = f" and {'at most' if self.closed else 'below'} {self.maximum:g}"
        high = high if isfinite(self.maximum) else ""
        off = ", or inf (off)" if self.off else ""
        absent = ", or None (absent)" if self.absent else ""
        return f"{self.what}: a number {low}{high}{off}{absent}"


@dataclasses.dataclass(frozen=True)
class Evaluations(Real):
    """A whole number of evaluations, 1 or more, or inf; kept as a float, for it is a strength."""

    def allows(self, value: Any) -> bool:
        """True for 1, 2, ... and inf."""
        return super().allows(value) and (value == inf or value == int(value))

    def __str__(self) -> str:
        return f"{self.what}: a whole number, 1 or more, or inf (off)"


@dataclasses.dataclass(frozen=True)
class Boolean(_Plain):
    """True or False."""

    def allows(self, value: Any) -> bool:
        """True if the value is a bool."""
        return isinstance(value, bool)

    def parse(self, text: str) -> Any:
        """The bool, or the text as it is."""
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)

    def __str__(self) -> str:
        return "True or False"


@dataclasses.dataclass(frozen=True)
class Choice(_Plain):
    """One of a few names, or None where `absent`."""

    names: tuple[str, ...]
    absent: bool = False

    def allows(self, value: Any) -> bool:
        """True if the value is one of the names."""
        return self.absent if value is None else isinstance(value, str) and value in self.names

    def parse(self, text: str) -> Any:
        """The text, None for the word where that is allowed."""
        return None if self.absent and _is_none(text) else text.strip()

    def __str__(self) -> str:
        return f"one of: {', '.join(self.names)}{', or None' if self.absent else ''}"


@dataclasses.dataclass(frozen=True)
class Word(_Plain):
    """Any text, or None: an option of a person's own model."""

    def allows(self, value: Any) -> bool:
        """True for texts and None."""
        return value is None or isinstance(value, str)

    def parse(self, text: str) -> Any:
        """The text, None for the word."""
        return None if _is_none(text) else text.strip()

    def __str__(self) -> str:
        return "a word, or None"


@dataclasses.dataclass(frozen=True)
class Text:
    """Any text, such as a path; several may be given as a list, and are kept with commas."""

    what: str

    def allows(self, value: Any) -> bool:
        """True for a text, and for a list or tuple of texts that are not empty."""
        if isinstance(value, list | tuple):
            return len(value) > 0 and all(isinstance(part, str) and part for part in value)
        return isinstance(value, str)

    def parse(self, text: str) -> Any:
        """The text."""
        return text.strip()

    def canonical(self, value: Any) -> Any:
        """One text."""
        return value if isinstance(value, str) else ",".join(value)

    def __str__(self) -> str:
        return self.what


@dataclasses.dataclass(frozen=True)
class Names:
    """A tuple of distinct names, of `known` if given; empty only if `empty`. Written a,b."""

    what: str
    known: tuple[str, ...] = ()
    empty: bool = False

    def allows(self, value: Any) -> bool:
        """True for a list or tuple of different strings that are not empty."""
        if not isinstance(value, list | tuple):
            return False
        if not all(isinstance(name, str) and name for name in value):
            return False
        is_known = not self.known or set(value) <= set(self.known)
        return len(value) == len(set(value)) and (self.empty or len(value) > 0) and is_known

    def parse(self, text: str) -> Any:
        """The names, or the text as it is."""
        if text.strip()[:1] in ("(", "["):
            return _converted(ast.literal_eval, text)
        return tuple(name.strip() for name in text.split(","))

    def canonical(self, value: Any) -> Any:
        """A tuple."""
        return tuple(value)

    def __str__(self) -> str:
        which = f"different names of {', '.join(self.known)}" if self.known else "different names"
        return f"{self.what}: {which}{'' if self.empty else ', at least one'}"


@dataclasses.dataclass(frozen=True)
class Edges(_Plain):
    """ "all", or one connection "query->key"; whether the data has these cues is checked later."""

    def allows(self, value: Any) -> bool:
        """True for the word, or two different names with an arrow between."""
        ends = value.split("->") if isinstance(value, str) else []
        return value == "all" or (len(ends) == 2 and all(ends) and ends[0] != ends[1])

    def parse(self, text: str) -> Any:
        """The text without spaces."""
        return text.replace(" ", "")

    def __str__(self) -> str:
        return (
            "all, or a connection such as query->noun (who looks -> at whom; query is where the"
            " answer is read)"
        )


@dataclasses.dataclass(frozen=True)
class Either:
    """A field that several data sets have, each with its own range: what any of them allows."""

    fields: tuple["Field", ...]

    def allows(self, value: Any) -> bool:
        """True if one of them allows the value."""
        return any(field.allows(value) for field in self.fields)

    def parse(self, text: str) -> Any:
        """The value as the first one reads it that allows it; the text as it is where none does."""
        values = ((field, field.parse(text)) for field in self.fields)
        return next((value for field, value in values if field.allows(value)), text)

    def canonical(self, value: Any) -> Any:
        """As the first one that allows it keeps it."""
        return next(field for field in self.fields if field.allows(value)).canonical(value)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.fields))


Field = Whole | Real | Boolean | Choice | Word | Text | Names | Edges | Either


def _is_none(text: str) -> bool:
    return text.strip().lower() in ("none", "null")


def _converted(convert: Callable, text: str) -> Any:
    try:
        return convert(text.strip())
    except (ValueError, SyntaxError):
        return text

"""Tokens of bytes as text that people can read."""

import re
from collections.abc import Sequence

from jaxreg.data.tokens.encode import bytes_alphabet
from jaxreg.errors import printable


def are_bytes(tokens: Sequence[str]) -> bool:
    """Whether a data set's vocabulary, padding first, is that of bytes."""
    shown = bytes_alphabet().tokens[:-1]
    return tuple(tokens[1 : len(shown) + 1]) == shown


def spelled(tokens: Sequence[str]) -> str:
    r"""The text of tokens of bytes, as UTF-8.

    What is none, such as a character that a window cuts in two, is written out: `\xc3`. So are
    control characters, which would steer a terminal, but for the ends of lines and tabs.
    """
    known = {token: bytes([byte]) for byte, token in enumerate(bytes_alphabet().tokens[:-1])}
    text = b"".join(known.get(token, token.encode()) for token in tokens)
    decoded = text.decode(errors="backslashreplace").replace("\r\n", "\n")
    parts = re.split(r"([\n\t])", decoded)
    return "".join(part if part in ("\n", "\t") else printable(part) for part in parts)

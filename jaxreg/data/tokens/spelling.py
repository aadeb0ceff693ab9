"""Tokens as text that people can read, and a person's text as tokens."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int32

from jaxreg.data.dataset import PAD
from jaxreg.data.tokens.encode import Alphabet, alphabet_of, bytes_alphabet
from jaxreg.errors import nearest, printable

Kind = Literal["bytes", "tokenizer", "ids", "characters", "words"]
"""What a token of a data set is."""


def are_bytes(tokens: Sequence[str]) -> bool:
    """Whether a data set's vocabulary, padding first, is that of bytes."""
    shown = bytes_alphabet().tokens[:-1]
    return tuple(tokens[1 : len(shown) + 1]) == shown


def spelled(tokens: Sequence[str], errors: str = "backslashreplace") -> str:
    r"""The text of tokens of bytes, as UTF-8.

    What is none, such as a character that a window cuts in two, is written out: `\xc3`, or as
    `bytes.decode` does it with `errors`. So are control characters, which would steer a terminal,
    but for the ends of lines and tabs.
    """
    known = {token: bytes([byte]) for byte, token in enumerate(bytes_alphabet().tokens[:-1])}
    text = b"".join(known.get(token, token.encode()) for token in tokens)
    return shown(text.decode(errors=errors))


def shown(text: str) -> str:
    """A text with control characters written out, but for the ends of lines and tabs."""
    parts = re.split(r"([\n\t])", text.replace("\r\n", "\n"))
    return "".join(part if part in ("\n", "\t") else printable(part) for part in parts)


@dataclasses.dataclass(frozen=True, eq=False)
class Spelling:
    """How the tokens of a data set are typed and read.

    Attributes:
      tokens: what each id stands for; 0 is padding.
      kind: what a token is: a byte, a piece of a tokenizer, a number, a character or a word.
      alphabet: of a tokenizer; None of the others.
    """

    tokens: tuple[str, ...]
    kind: Kind
    alphabet: Alphabet | None = None

    @classmethod
    def of(cls, tokens: Sequence[str], tokenizer: str = "") -> "Spelling":
        """The spelling of a vocabulary, padding first.

        Args:
          tokens: what each id stands for.
          tokenizer: the file of `data.tokenizer`, or empty.

        Raises:
          ValueError: one line: the tokenizer cannot be read.
        """
        tokens = tuple(tokens)
        if tokenizer:
            return cls(tokens, "tokenizer", alphabet_of(tokenizer))
        if are_bytes(tokens):
            return cls(tokens, "bytes")
        if tokens[1:] == tuple(str(number) for number in range(len(tokens) - 1)):
            return cls(tokens, "ids")
        return cls(tokens, "characters" if " " in tokens else "words")

    def encode(self, text: str) -> Int32[np.ndarray, " p"]:
        """The ids of a text, without the end of a document.

        Raises:
          ValueError: one line: no token, or one that is not known.
        """
        found = np.asarray(self._encoded(text), np.int32)
        if not found.size:
            raise ValueError(f"{text!r} has no token")
        if found.max() >= len(self.tokens):
            raise ValueError(f"{text!r} has a token that the data set has not")
        return found

    def _encoded(self, text: str) -> Any:
        if self.kind == "bytes":
            return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 1
        if self.alphabet is not None:
            return self.alphabet.encode(text.encode(), "the text")[:-1].astype(np.int32) + 1
        known = {token: number for number, token in enumerate(self.tokens) if number != PAD}
        parts = list(text) if self.kind == "characters" else text.split()
        words = [word if word in known else word.lower() for word in parts]
        wrong = next(
            (part for part, word in zip(parts, words, strict=True) if word not in known), ""
        )
        if wrong and self.kind == "ids":
            raise ValueError(f"{wrong!r} is no id from 0 to {len(known) - 1}; give ids and blanks")
        if wrong:
            hint = nearest(wrong, known)
            hint = hint if len(known) < 50 or "did you mean" in hint else ""
            raise ValueError(f"{wrong!r} is no token of the data set{hint}")
        return [known[word] for word in words]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of some ids; what is no text is replaced, of bytes as UTF-8 has it.

        Ids without a spelling stay numbers. The end of a document is written out.
        """
        ids = np.asarray(ids)
        words = [self.tokens[number] for number in ids.tolist() if number != PAD]
        if self.kind == "bytes":
            return spelled(words, errors="replace")
        if self.alphabet is not None:
            return shown(_by_tokenizer(self.alphabet, ids[ids != PAD] - 1))
        return shown(("" if self.kind == "characters" else " ").join(words))

    def name(self, token: int) -> str:
        """One token as it is named in a list: quoted, or its number; "<0xc3>" of half a letter."""
        word = self.tokens[token]
        if self.kind == "ids":
            return word
        text = self.decode([token])
        if self.kind == "bytes":
            return repr(text) if len(word) == 1 or text in ("\n", "\t") else word
        return printable(word) if "\ufffd" in text else repr(text)


def _by_tokenizer(alphabet: Alphabet, ids: np.ndarray) -> str:
    """The text of ids; those that the tokenizer does not have, as they are shown."""
    parts, own = [], []
    for number in [*ids.tolist(), None]:
        if number is not None and number < alphabet.tokenizer.get_vocab_size():
            own.append(number)
            continue
        parts.append(alphabet.tokenizer.decode(own, skip_special_tokens=False) if own else "")
        own = []
        if number is not None:
            known = number < len(alphabet.tokens)
            parts.append(alphabet.tokens[number] if known else f"<{number}>")
    return "".join(parts)

"""TOKENS: the next token at every position, over a person's own files."""

from jaxreg.data.tokens.source import SOURCE

__all__ = ["SOURCE"]

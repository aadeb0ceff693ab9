"""DIGITS: handwritten digits as patches."""

from jaxreg.data.digits.source import SOURCE

__all__ = ["SOURCE"]

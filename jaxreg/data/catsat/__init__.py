"""CATSAT: verb number in sentences of the cat-sat kind."""

from jaxreg.data.catsat.source import SOURCE

__all__ = ["SOURCE"]

"""LABELLED_TEXT: texts of a TFDS set with a label each."""

from jaxreg.data.labelled_text.source import SOURCE

__all__ = ["SOURCE"]

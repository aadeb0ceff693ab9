"""IMAGES: labelled images of a TFDS set as patches."""

from jaxreg.data.images.source import SOURCE

__all__ = ["SOURCE"]

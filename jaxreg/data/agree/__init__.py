"""AGREE: subject-verb agreement in 15 frames of English."""

from jaxreg.data.agree.source import SOURCE

__all__ = ["SOURCE"]

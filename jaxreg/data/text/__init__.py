"""TEXT: the next character of real prose."""

from jaxreg.data.text.source import SOURCE

__all__ = ["SOURCE"]

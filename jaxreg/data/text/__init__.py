"""TEXT: the next character of real prose."""

"""DIGITS: handwritten digits as patches."""

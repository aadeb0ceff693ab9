"""CATSAT: verb number in sentences of the cat-sat kind."""

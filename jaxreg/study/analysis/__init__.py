"""From scores to verdicts: numbers in, numbers out."""

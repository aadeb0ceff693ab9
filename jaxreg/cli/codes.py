"""Exit codes: done; a defect of ours; the user's mistake; interrupted and resumable."""

DONE, DEFECT, MISTAKE, INTERRUPTED = 0, 1, 2, 75

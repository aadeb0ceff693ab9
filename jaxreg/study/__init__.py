"""Arms x seeds: configuration, running, statistics, verdicts, report. Nothing loads on import."""

"""Arms x seeds: configuration, running, statistics, verdicts, and the report. Nothing loads on
import.
"""

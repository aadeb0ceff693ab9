"""The life of a Cloud TPU: created, set up, run on, preempted, fetched from, deleted."""

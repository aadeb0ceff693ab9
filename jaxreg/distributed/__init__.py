"""The processes of a job: joining, agreeing, signals, and what a process says when it dies."""

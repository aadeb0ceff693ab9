"""The processes of a job: joining, agreement, signals, and the error line of a killed process."""

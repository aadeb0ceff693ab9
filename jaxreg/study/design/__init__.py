"""What an experiment is, and everything that is checked before anything runs."""

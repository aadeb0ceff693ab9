"""Training: one pure step, a population of members, devices, checkpoints, stopping."""

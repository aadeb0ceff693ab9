"""The checks, one module per family; each module has a table `CHECKS`."""

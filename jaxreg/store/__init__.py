"""Storage on disk or in a bucket: paths, atomic files, locks, checkpoints, trained members."""

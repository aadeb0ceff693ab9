"""Regularizers that are no modules: functions that the training step takes without their names.

    penalties      terms of the loss: a class and a line of `PENALTIES` each
    augmentations  a training batch changed at each step: a class and a line of `AUGMENTATIONS` each
    sharpness      where the gradient is taken a second time: SAM, ASAM
    schedules      the factor of a strength at a step: early, late, rising, falling, curriculum

Every strength may be traced, and has an off value at which the program computes what it would
compute without it. Clips, decay, gradient noise and averaged weights are transformations of the
gradient, in `jaxreg.optim`.
"""

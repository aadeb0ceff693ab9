"""What regularizes when text is short: the study at 30M parameters and 10M tokens.

Command:  jaxreg plan experiments/short_data_small.py --accelerator=v5e-8
          --config.data.path=tokens.bin
          jaxreg grid experiments/short_data_small.py --config.data.path=tokens.bin
          --workdir=runs/short_data_small
Data:     see configs/short_data_small.py
Time:     8 device-hours of an H100, 40 of a v5e, compiled for both: docs/accelerators.md
Result:   not run yet

Arms, predictions and papers are those of experiments/short_data.py; losses are in nats per token.
In one pass and in fifteen: 2, 4 and 8 passes are left out for their price.
"""

from short_data import grid

from jaxreg.study.design.grid import Grid

STEPS_PER_SECOND = 32.0
"""Model-steps of one H100 at 30% of its peak, by the count of products; not measured."""


def get_experiment() -> Grid:
    """Returns eleven arms at 1 and 15 passes, twelve paired seeds each."""
    return grid(
        "short_data_small",
        config="../configs/short_data_small.py",
        rates=(3e-4, 1e-3, 3e-3, 1e-2),
        steps_of_a_pass=305,
        passes=(1, 15),
        seeds=tuple(range(840, 840 + 12)),
        tuning_seeds=(77,),
        speed=lambda cell: STEPS_PER_SECOND,
    )

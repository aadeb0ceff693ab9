"""What regularizes when text is short: the study at 150M parameters and 100M tokens.

Command:  jaxreg plan experiments/short_data_base.py --accelerator=v5e-8
          --config.data.path=tokens.bin
          jaxreg grid experiments/short_data_base.py --config.data.path=tokens.bin
          --workdir=runs/short_data_base
Data:     see configs/short_data_base.py
Time:     363 device-hours of H100s, 1,822 of v5e, compiled for both: docs/accelerators.md
Result:   not run yet

Arms, predictions and papers are those of experiments/short_data.py; losses are in nats per token.
In one pass and in fifteen: 2, 4 and 8 passes are left out for their price.
"""

from short_data import grid

from jaxreg.study.design.grid import Grid

STEPS_PER_SECOND = 1.76
"""Model-steps of one H100 at 30% of its peak, by the count of products; not measured."""


def get_experiment() -> Grid:
    """Returns eleven arms at 1 and 15 passes, twelve paired seeds each."""
    return grid(
        "short_data_base",
        config="../configs/short_data_base.py",
        rates=(2e-4, 6e-4, 2e-3, 6e-3),
        steps_of_a_pass=763,
        passes=(1, 15),
        seeds=tuple(range(860, 860 + 12)),
        tuning_seeds=(78,),
        speed=lambda cell: STEPS_PER_SECOND,
    )

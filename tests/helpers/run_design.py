"""A small config.json, as this version writes it."""

_SETTINGS = {"data": {"dataset": "catsat"}, "train": {"num_steps": 40}}


def design(arms=("none",), seeds=(1, 2), name: str = "parity") -> dict:
    """config.json of a run that was never made: enough for what is checked before anything runs."""
    arm = {"title": "an arm", "diff": {}, "predict": None, "kind": "arm", "seed_offset": 0}
    return {
        "experiment": {
            "name": name,
            "question": "?",
            "config": "configs/cat_sat.py",
            "baseline": arms[0],
            "arms": dict.fromkeys(arms, arm),
            "seeds": list(seeds),
            "primary": "validation",
            "margin": 0.05,
            "alpha": 0.05,
            "prediction": "none",
        },
        "config": _SETTINGS,
        "arms": dict.fromkeys(arms, _SETTINGS),
        "seeds": list(seeds),
        "code_version": "0" * 24,
    }

"""The members of a design in a file: of an experiment, a grid, a claim, or a whole ledger."""

import ast
from collections.abc import Sequence
from pathlib import Path

from jaxreg.errors import UserErrors
from jaxreg.study.claims import members
from jaxreg.study.claims.design import Design, load_claim, load_folder
from jaxreg.study.claims.grid_cells import LoadedGrid, load_grid
from jaxreg.study.design import config as configs
from jaxreg.study.design import experiment as experiments
from jaxreg.study.design.experiment import Experiment
from jaxreg.study.design.grid import Grid
from jaxreg.study.engine.dataset_loader import content_hash
from jaxreg.study.engine.members import Spec, make_specs, plain


def is_claim(path: Path) -> bool:
    """Whether a Python file has `get_claim()`."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "get_claim" for node in body)


def claim_of(path: Path) -> Design:
    """The design of a claim file that trains something.

    Raises:
      UserErrors: it is wrong, or needs no run.
    """
    design = load_claim(path)
    if not design.arms:
        claim = design.claim
        raise UserErrors([f"{path}: {claim.id} needs no run: it is a {claim.form} claim"])
    return design


def grid_of(path: Path, overrides: Sequence[str] = ()) -> LoadedGrid | None:
    """The grid of an experiment file, None where it has no axes.

    Raises:
      UserErrors: all mistakes in the file, its config and the overrides.
    """
    has_axes = isinstance(experiments.load_experiment(path), Grid)
    return load_grid(path, overrides=overrides) if has_axes else None


def refuse_overrides(overrides: Sequence[str]) -> None:
    """Raises UserErrors, a line each: the fields of a claim stand in its file."""
    if overrides:
        raise UserErrors([f"--config.{each}: a claim takes no config fields" for each in overrides])


def experiment_of(path: Path, overrides: Sequence[str] = ()) -> tuple[Experiment, list[Spec]]:
    """An experiment and its members, each once.

    Args:
      overrides: "train.batch_size=8", ... of its config.

    Raises:
      UserErrors: all mistakes in the file, its config and the overrides.
    """
    experiment = experiments.load_experiment(path)
    config, mistakes = configs.read_config(experiments.config_path(path, experiment), overrides)
    if config is None or mistakes:
        raise UserErrors(mistakes)
    resolved = {name: plain(arm) for name, arm in configs.resolve_arms(experiment, config).items()}
    specs = make_specs(experiment.arms, resolved, experiment.seeds, content_hash)
    return experiment, members.unique(specs)


def specs_of(path: Path, overrides: Sequence[str] = ()) -> list[Spec]:
    """The members that a design trains, each once: candidates first, then the verdict seeds.

    Args:
      path: an experiment, a grid, a claim, or a folder of claims, which share members.
      overrides: of an experiment's or a grid's config; a claim takes none.

    Raises:
      UserErrors: the file is wrong, or needs no run.
    """
    if path.is_dir() or is_claim(path):
        refuse_overrides(overrides)
        own = load_folder(path).values() if path.is_dir() else [claim_of(path)]
        designs = [design for design in own if design.arms]
    else:
        grid = grid_of(path, overrides)
        if grid is None:
            return experiment_of(path, overrides)[1]
        designs = list(grid.designs.values())
    tuning = members.tuning_specs(designs, content_hash)
    return members.unique([*tuning, *members.evaluation_specs(designs, {}, content_hash)])

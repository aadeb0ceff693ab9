"""Writes the reference of the site from the code: docs/reference/, made anew at each build.

Command:  python -m experiments.pages.reference

Commands come from their parsers, config fields from `base_config` and its table of what each may
be, and the API from the public names, whose docstrings Sphinx reads.
"""

import ast
import importlib
import inspect
import io
import os
import re
import tokenize
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.pages.markdown import table
from jaxreg.cli import arguments
from jaxreg.cli.main import COMMANDS
from jaxreg.data import SOURCES, source
from jaxreg.reg.augmentations import AUGMENTATIONS
from jaxreg.reg.penalties import PENALTIES
from jaxreg.study.design import base_config, config_fields
from jaxreg.study.design.regularizers import REGULARIZER_KINDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
API = {
    "jaxreg": "jaxreg",
    "nn": "jaxreg.nn",
    "nnx": "jaxreg.nn.nnx",
    "penalties": "jaxreg.reg.penalties",
    "augmentations": "jaxreg.reg.augmentations",
    "schedules": "jaxreg.reg.schedules",
    "sharpness": "jaxreg.reg.sharpness",
    "optim": "jaxreg.optim",
    "audit": "jaxreg.audit",
}
"""Page -> the module whose public names it lists, each with an example."""
OTHERS = {
    "experiments": (
        "What an experiment file is made of",
        (
            "jaxreg.study.design.experiment.Experiment",
            "jaxreg.study.design.experiment.Arm",
            "jaxreg.study.design.experiment.Tune",
            "jaxreg.study.design.grid.Grid",
            "jaxreg.study.design.grid.Axis",
            "jaxreg.study.analysis.law.Law",
            "jaxreg.study.design.components.Own",
            "jaxreg.study.design.base_config.get_config",
            "jaxreg.study.design.config.with_changes",
        ),
    ),
    "data": (
        "Data sets, views and how to make your own",
        (
            "jaxreg.data.Source",
            "jaxreg.data.Dataset",
            "jaxreg.data.Encoded",
            "jaxreg.data.Legend",
            "jaxreg.data.Split",
            "jaxreg.data.View",
            "jaxreg.data.source.setting",
            "jaxreg.data.source.check_settings",
            "jaxreg.data.source.generator",
            "jaxreg.data.cache.from_tfds",
            "jaxreg.data.next_token_split",
            "jaxreg.data.batch_indices",
        ),
    ),
    "trained": (
        "Trained models",
        (
            "jaxreg.study.commands.trained_run.TrainedRun",
            "jaxreg.study.commands.trained_run.TrainedMember",
            "jaxreg.probe.sampling.sample",
            "jaxreg.probe.sampling.next_probabilities",
        ),
    ),
    "results": (
        "What calls hand back, and losses",
        (
            "jaxreg.study.commands.judge.Judgement",
            "jaxreg.attention.replay.DropoutCall",
            "jaxreg.audit.bench.Bench",
            "jaxreg.losses.cross_entropy",
            "jaxreg.losses.answer_losses",
        ),
    ),
}
"""Page -> its title, and names of several modules."""
_SECTIONS = {
    "model": "The model",
    "loss": "Terms of the loss",
    "augment": "Augmentations",
    "optim": "Optimization",
    "schedule": "A strength over the steps",
    "counterfactual": "Counterfactual dropout",
    "train": "Training",
    "eval": "Evaluation",
    "stopping": "Stopping",
    "checkpoint": "Saving",
}


def public_names(module: str) -> list[str]:
    """The public names of a module that are no modules: its `__all__`, or what it defines."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        listed = [name for name in loaded.__all__ if not name.startswith("_")]
    else:
        listed = [
            name
            for name, value in vars(loaded).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module
        ]
    return [name for name in listed if callable(getattr(loaded, name))]


def api_page(module: str) -> str:
    """A page with every public name of a module.

    Raises:
      ValueError: a public name has no docstring.
    """
    loaded, parts = importlib.import_module(module), [f"# {module}\n"]
    parts.append(f"{linked(inspect.cleandoc(loaded.__doc__ or ''))}\n")
    parts += [_entry(f"{module}.{name}", getattr(loaded, name)) for name in public_names(module)]
    return "\n".join(parts)


def linked(text: str, link: str = "[{0}]({1})") -> str:
    """A text with a link at each paper of arXiv; link: of its words and its address."""
    return re.sub(
        r"arXiv:(\d{4}\.\d{4,5})",
        lambda found: link.format(found[0], f"https://arxiv.org/abs/{found[1]}"),
        text,
    )


def other_page(title: str, names: Sequence[str]) -> str:
    """A page with names of several modules.

    Raises:
      ValueError: one of them has no docstring.
    """
    parts = [f"# {title}\n"]
    for dotted in names:
        module, _, name = dotted.rpartition(".")
        parts.append(_entry(dotted, getattr(importlib.import_module(module), name)))
    return "\n".join(parts)


def _entry(dotted: str, value: Any) -> str:
    """A name as Sphinx lists it; a class with its public methods."""
    if not has_docstring(value):
        raise ValueError(f"{dotted} has no docstring")
    if not isinstance(value, type):
        return f"```{{eval-rst}}\n.. autofunction:: {dotted}\n```\n"
    own = methods(value)
    for name in own:
        if not has_docstring(getattr(value, name)):
            raise ValueError(f"{dotted}.{name} has no docstring")
    members = f"\n   :members: {', '.join(own)}" if own else ""
    return f"```{{eval-rst}}\n.. autoclass:: {dotted}{members}\n```\n"


def has_docstring(value: Any) -> bool:
    """Whether somebody wrote one: dataclasses make one of their fields by themselves."""
    made = f"{value.__name__}(" if isinstance(value, type) else "\0"
    return bool(value.__doc__) and not value.__doc__.startswith(made)


def methods(value: type) -> list[str]:
    """The public functions and properties that a class itself defines."""
    kinds = (types.FunctionType, staticmethod, classmethod, property)
    return [
        name
        for name, each in vars(value).items()
        if isinstance(each, kinds) and not name.startswith("_") and _is_of(each, value)
    ]


def _is_of(member: Any, value: type) -> bool:
    """Whether the class's own source defines a member, and no decorator of another library."""
    function = member.fget if isinstance(member, property) else member
    return function is not None and inspect.unwrap(function).__module__ == value.__module__


def commands_page() -> str:
    """Every command, as its `--help` says it."""
    os.environ["COLUMNS"] = "96"
    parts = ["# Commands\n", "[Exit codes](../robustness.md#exit-codes).\n"]
    for name, (usage, _) in COMMANDS.items():
        text = arguments.parser(usage).format_help().rstrip()
        parts.append(f"## jaxreg {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def config_page() -> str:
    """Every config field: its default, what it may be and what it means."""
    config = base_config.get_config()
    meanings = comments(Path(base_config.__file__).read_text(encoding="utf-8"))
    meanings |= {f"loss.{name}_strength": first_line(each) for name, each in PENALTIES.items()}
    meanings |= {f"augment.{name}": first_line(each) for name, each in AUGMENTATIONS.items()}
    parts = [
        "# Config fields\n",
        "`--config.SECTION.FIELD=VALUE` changes one. A strength of None is absent.\n",
        f"`seed`: {config_fields.FIELDS['seed']}; `jaxreg train` only.\n",
    ]
    for section, title in _SECTIONS.items():
        fields = {
            name: field
            for name, field in config_fields.FIELDS.items()
            if name.startswith(f"{section}.")
        }
        rows = [
            (
                f"`{name}`",
                f"`{config[section][name.partition('.')[2]]}`",
                str(field),
                meanings[name],
            )
            for name, field in fields.items()
        ]
        parts.append(f"## {title}\n\n{table(('field', 'default', 'may be', 'meaning'), rows)}")
    parts.append("## Data sets\n\n`data.dataset` names one; the others are its settings.\n")
    for name, each in SOURCES.items():
        fields = source.fields_of(each.settings)
        rows = [
            (f"`data.{field}`", f"`{setting.default!r}`", setting.metadata["unit"])
            for field, setting in fields.items()
        ]
        parts.append(f"### {name}\n\n{each.what}\n\n{table(('field', 'default', 'unit'), rows)}")
    return "\n".join(parts)


def regularizers_page() -> str:
    """Every regularizer, from the one table that `jaxreg list` prints too."""
    heads = ("name", "config field", "off value", "what it does", "source")
    parts = ["# Every regularizer\n", "[What they have in common](../regularizers.md).\n"]
    for kind, entries in REGULARIZER_KINDS.items():
        rows = [
            (
                name,
                f"`{each.field}`",
                "" if each.off is None else f"`{each.off:g}`",
                each.what,
                each.source,
            )
            for name, each in entries.items()
        ]
        parts.append(f"## {kind.capitalize()}\n\n{table(heads, rows)}")
    return "\n".join(parts)


def first_line(value: Any) -> str:
    """The first line of a docstring."""
    return (value.__doc__ or "").strip().splitlines()[0]


def comments(text: str) -> dict[str, str]:
    """Field -> the comment behind its entry or above it, of the sections in a config's source."""
    lines, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0]] = token.string.lstrip("# ").strip()
            if token.line.lstrip().startswith("#"):
                alone.add(token.start[0])
    return {
        name: _beside(lines, alone, line)
        for section, entries in _entries(ast.parse(text)).items()
        for name, line in ((f"{section}.{key}", line) for key, line in entries.items())
    }


def _beside(lines: Mapping[int, str], alone: set[int], line: int) -> str:
    """The comment on a line, or the comment lines that end above it."""
    if line in lines:
        return lines[line]
    above = line - 1
    while above in alone:
        above -= 1
    return " ".join(lines[number] for number in range(above + 1, line))


def _entries(tree: ast.Module) -> dict[str, dict[str, int]]:
    """Section -> field -> its line, of the assignments `config.SECTION = ConfigDict({...})`."""
    found: dict[str, dict[str, int]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            continue
        if isinstance(node.value, ast.Call) and node.value.args:
            held = node.value.args[0]
            if isinstance(held, ast.Dict):
                found[node.targets[0].attr] = {
                    key.value: key.lineno for key in held.keys if isinstance(key, ast.Constant)
                }
    return found


def pages() -> dict[str, str]:
    """File name -> text of every page of the reference."""
    found = {f"{page}.md": api_page(module) for page, module in API.items()}
    found |= {f"{page}.md": other_page(title, names) for page, (title, names) in OTHERS.items()}
    return found | {
        "commands.md": commands_page(),
        "config.md": config_page(),
        "regularizers.md": regularizers_page(),
    }


def main() -> None:
    """Writes the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

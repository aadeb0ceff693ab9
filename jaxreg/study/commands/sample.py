"""A text, continued by a trained member, and what the model says next."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.text import Text

from jaxreg.data.tokens.spelling import shown
from jaxreg.errors import DONE, UserErrors
from jaxreg.probe import sampling
from jaxreg.study.commands import trained_run
from jaxreg.study.commands.inspect import next_in_words, typed
from jaxreg.study.commands.trained_run import TrainedMember, TrainedRun


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is to be drawn.

    Attributes:
      text: what it begins with. length: tokens to draw. number: of continuations.
      temperature, top_k: as `jaxreg.probe.sampling.sample` takes them.
      sample_seed: of the draws.
    """

    text: str
    length: int = 200
    temperature: float | int = 1.0
    top_k: int | None = None
    number: int = 1
    sample_seed: int = 0


def sample(workdir: Path, arm: str | None, seed: int | None, asked: Asked, console: Console) -> int:
    """Prints whose text it is, what comes next, and the continuations; returns the exit code.

    Args:
      arm: None: the baseline, or the only one. seed: None: the first.

    Raises:
      UserErrors: the member is not trained or continues no text, or a token is not known.
    """
    run = trained_run.read(workdir)
    member = run.member(arm, seed)
    _refuse(member, asked)
    prompt = typed(member, asked.text)
    _say(console, f"{whose(run, member)}; {member.parameters_in_words()}")
    if len(prompt) > member.window:
        _say(
            console, f"the model reads the last {member.window} of the text's {len(prompt)} tokens"
        )
    _say(console, f"the model says next: {next_in_words(member, prompt)}")
    texts = continuations(member, prompt, asked)
    for number, text in enumerate(texts, start=1):
        _say(console, f"\n--- {number} of {len(texts)}" if texts[1:] else "")
        line = Text.assemble((shown(asked.text), "bold"), text)
        console.print(line, soft_wrap=True, highlight=False)
    return DONE


def continuations(member: TrainedMember, prompt: np.ndarray, asked: Asked) -> list[str]:
    """The drawn texts, without the prompt.

    Raises:
      UserErrors: as `sample`.
    """
    key = jax.random.key(asked.sample_seed, impl="threefry2x32")
    try:
        drawn = sampling.sample(
            member.model,
            member.params,
            prompt,
            asked.length,
            key,
            number=asked.number,
            temperature=asked.temperature,
            top_k=asked.top_k,
            window=member.window,
        )
    except ValueError as error:
        raise UserErrors(str(error).splitlines()) from None
    return [_behind(member, prompt, row) for row in np.asarray(drawn)]


def _behind(member: TrainedMember, prompt: np.ndarray, drawn: np.ndarray) -> str:
    """The text of the drawn tokens as it stands behind the prompt, with the blank between them."""
    head, whole = member.decode(prompt), member.decode(np.concatenate([prompt, drawn]))
    return whole.removeprefix(head) if whole.startswith(head) else member.decode(drawn)


def whose(run: TrainedRun, member: TrainedMember) -> str:
    """Such as "arm none (the baseline), seed 100 (the first of 8)"."""
    arm, seed = member.spec.arm, member.spec.seed
    first = arm == run.experiment.baseline and bool(run.arms[1:])
    several = seed == run.seeds[0] and bool(run.seeds[1:])
    return (
        f"arm {arm}{' (the baseline)' if first else ''},"
        f" seed {seed}{f' (the first of {len(run.seeds)})' if several else ''}"
    )


def _refuse(member: TrainedMember, asked: Asked) -> None:
    """Raises all that keeps a member from continuing the text."""
    dataset, mistakes = member.dataset, []
    if dataset.answers != "every_position":
        mistakes.append(
            f"{dataset.name} asks for one answer, not for the next token: its models continue no"
            " text"
        )
    if member.record.meta["diverged"]:
        mistakes.append(
            f"arm {member.spec.arm!r} at seed {member.spec.seed} diverged: it has no text"
        )
    tokens = len(dataset.tokens) - 1
    if asked.top_k is not None and asked.top_k > tokens:
        mistakes.append(f"--top_k={asked.top_k}: the data set has {tokens} tokens")
    if mistakes:
        raise UserErrors(mistakes)


def _say(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)

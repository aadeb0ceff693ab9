"""What claims are judged by: one number of a trained member, or of an arm's members at one seed.

    accuracy("recombination")
    loss("validation")
    best_loss("validation")
    ensemble_loss("validation")
    gap("train", "validation")
    kept("noun_cut", "informative")
    worst("noun_cut", "determiner_cut")
    steps_to("validation", 0.85)
    at_crossing("validation", "train", loss_below=0.1)
    diverged()
    diverged_share()
    largest_stable("optim.learning_rate")
    probed("mass", probe, lambda found: found["mass"][0])
    traced("gradient ratio", "gradients", "gradient_first_to_last", lambda x: x[-1])

A diverged member counts as what a guess gives (`lost`), and is never left out.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset, View

POINTS = {"unit": "points", "scale": 100.0}
NATS = {"unit": "nats", "scale": 1.0}
LOG_PERCENT = {"unit": "% (log)", "scale": 100.0}
OCTAVES = {"unit": "octaves", "scale": 1.0}


@dataclasses.dataclass(frozen=True)
class Probe:
    """A quantity of the trained parameters; computed after training, kept on disk (`probing.py`).

    Attributes:
      name: part of the address it is kept under.
      run: (model, params, batch, seed, **settings) -> {name: array}; a pure function, run under jit
        for many members. `model` has the member's own rates, `batch` is a dict as in
        `jaxreg.probe.forward`, `seed` is the member's.
      view: whose sentences it sees. rows: how many, the first ones.
      settings: keyword arguments of `run`, JSON-able: part of the address.
      reads_every_position: it can be asked of data whose every position has an answer, too.
    """

    name: str
    run: Callable[..., Mapping[str, Any]]
    view: str = "recombination"
    rows: int = 128
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reads_every_position: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredMember:
    """A trained member, as a measure sees it.

    Attributes:
      record: its arrays and meta, as `training.Trainer` stores them.
      dataset: what it was trained on.
      num_steps: it was to train.
      at: its value in the arm's sweep, None without one.
      found: probe name -> what the probe found.
    """

    record: Any
    dataset: Dataset
    num_steps: int
    at: float | int | None = None
    found: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        """Whether it left the finite numbers."""
        return bool(self.record.meta["diverged"])

    def view(self, name: str) -> View:
        """A view of its data by name.

        Raises:
          KeyError: there is none.
        """
        found = next((view for view in self.dataset.views if view.name == name), None)
        if found is None:
            raise KeyError(f"{self.dataset.name} has no view {name!r}")
        return found

    def scores(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(hits, losses) of the sentences that a view counts."""
        from jaxreg.study.engine.member_scores import view_scores

        return view_scores(self.record, self.dataset, self.view(name))

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(accuracy, loss) of a curve at every evaluation [E]; NaN where it no longer trained.

        Raises:
          ValueError: the view is a part of a split; curves are of whole splits.
        """
        view, curves = self.view(name), self.record.meta["curves"]
        if view.subset is not None:
            why = f"{name} counts a part of {view.split} only; curves are of whole splits"
            raise ValueError(why)
        index = [[split, tuple(cut)] for split, cut in curves].index([view.split, tuple(view.cut)])
        return self.record.arrays["curves"][:, index, 0], self.record.arrays["curves"][:, index, 1]

    def accuracy(self, name: str) -> float:
        """Share of hits on a view."""
        return self.scores(name)[0].mean()

    def loss(self, name: str) -> float:
        """Mean loss on a view, in nats."""
        return self.scores(name)[1].mean()

    def chance(self, name: str) -> float:
        """Accuracy of a guess on a view."""
        return self.dataset.chance_of(self.view(name))


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """One number; the claim fixes whether higher or lower is better.

    Attributes:
      title: what people read.
      of: a member, or (`of_several`) all members of an arm at one seed -> the number.
      lost: a diverged member -> what it counts as; not asked of measures of several.
      unit, scale: a value times the scale is shown in the unit.
      views, curves: names that the data must have. traces: what eval.traces must name.
      probes: what must be computed first.
      is_difference: 0 means no effect, so that one arm alone can be asked.
      of_several: it reads all members of a sweep, or all copies.
      of_one_too: of several, and an arm without copies counts as one of one.
    """

    title: str
    of: Callable[..., float]
    lost: Callable[[MeasuredMember], float]
    unit: str = "points"
    scale: float | int = 100.0
    views: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    is_difference: bool = False
    of_several: bool = False
    of_one_too: bool = False

    def value(self, members: Sequence[MeasuredMember]) -> float:
        """The number of an arm at one seed; what is not finite counts as lost.

        Raises:
          ValueError: several members, and the measure reads one.
        """
        if self.of_several:
            return float(self.of(members))
        if len(members) != 1:
            raise ValueError(f"{self.title} reads one member, not {len(members)}")
        found = math.nan if members[0].diverged else float(self.of(members[0]))
        return found if math.isfinite(found) else float(self.lost(members[0]))

    def is_accuracy(self) -> bool:
        """Whether it is the accuracy of one view, so that ceiling and chance mean something."""
        of_one_view = len(self.views) == 1 and not self.is_difference and not self.probes
        return self.unit == "points" and of_one_view


def _guess_loss(member: MeasuredMember) -> float:
    """Of a guess over all outputs; of next tokens, of the unigram model on validation."""
    if member.dataset.answers == "query":
        return math.log(len(member.dataset.outputs))
    return member.dataset.guess_loss_of(member.view("validation"))


def _nothing(_: MeasuredMember) -> float:
    return 0.0


def accuracy(view: str) -> Measure:
    """Share of hits on a view; a diverged run guesses."""
    return Measure(
        f"accuracy, {view}", lambda m: m.accuracy(view), lambda m: m.chance(view), views=(view,)
    )


def log_errors(view: str) -> Measure:
    """Logarithm of the share of wrong answers on a view: a difference of -.69 is half as many.

    Half an error is added, and one row, so that no errors have a logarithm, too.
    """

    def share(wrong: float, rows: int) -> float:
        return math.log((wrong + 0.5) / (rows + 1))

    def errors(m: MeasuredMember) -> float:
        hits = m.scores(view)[0]
        return share(float(np.sum(1.0 - hits)), hits.size)

    def guess(m: MeasuredMember) -> float:
        rows = m.scores(view)[0].size
        return share((1.0 - m.chance(view)) * rows, rows)

    return Measure(f"errors, {view}", errors, guess, **LOG_PERCENT, views=(view,))


def loss(view: str) -> Measure:
    """Mean loss on a view in nats; a diverged run has that of a guess over all outputs."""
    return Measure(f"loss, {view}", lambda m: m.loss(view), _guess_loss, **NATS, views=(view,))


def best_loss(view: str) -> Measure:
    """The lowest loss of a curve in nats; a diverged run has that of a guess over all outputs."""

    def lowest(m: MeasuredMember) -> float:
        return float(np.nanmin(m.curve(view)[1]))

    return Measure(f"lowest loss, {view}", lowest, _guess_loss, **NATS, curves=(view,))


def ensemble_loss(view: str, *, rows: int = 512) -> Measure:
    """Loss in nats of the mean of the copies' probabilities; of an arm without copies its own.

    A mean over all answers of the first rows. Diverged copies are left out; of an arm where all
    diverged it is the loss of a guess.

    Source: Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4.
    """
    from scipy.special import logsumexp

    from jaxreg.probe.ensemble import answer_log_probabilities

    probe = Probe(
        "answers", answer_log_probabilities, view=view, rows=rows, reads_every_position=True
    )

    def of(members: Sequence[MeasuredMember]) -> float:
        found = [m.found[probe.name] for m in members if not m.diverged]
        if not found:
            return _guess_loss(members[0])
        votes = np.stack([each["log_probability"] for each in found]).astype(np.float64)
        answers = logsumexp(votes, axis=0) - math.log(len(found))
        return float(-answers[found[0]["is_asked"]].mean())

    return Measure(
        f"loss of the mean of the copies, {view}",
        of,
        _guess_loss,
        **NATS,
        views=(view,),
        probes=(probe,),
        of_several=True,
        of_one_too=True,
    )


def of_metric(metric: str, view: str) -> Measure:
    """The measure of a metric's name: accuracy, loss or best_loss on a view."""
    return {"accuracy": accuracy, "loss": loss, "best_loss": best_loss}[metric](view)


def beyond_unigram(view: str) -> Measure:
    """Nats by which a curve's lowest loss is below the unigram model's, of next tokens.

    For a precondition: `at_least=controls.UNIGRAM_MARGIN`.
    """

    def gain(m: MeasuredMember) -> float:
        return m.dataset.guess_loss_of(m.view(view)) - float(np.nanmin(m.curve(view)[1]))

    title = f"loss below the unigram model's, {view}"
    return Measure(title, gain, _nothing, **NATS, curves=(view,), is_difference=True)


def loss_rise(view: str) -> Measure:
    """Nats by which a curve's loss stands at the end above its lowest point; 0 if it diverged."""

    def rise(m: MeasuredMember) -> float:
        losses = m.curve(view)[1]
        return float(losses[-1] - np.nanmin(losses))

    title = f"loss, {view}, end minus lowest"
    return Measure(title, rise, _nothing, **NATS, curves=(view,), is_difference=True)


def above_chance(view: str) -> Measure:
    """Accuracy minus that of a guess."""
    return Measure(
        f"accuracy above chance, {view}",
        lambda m: m.accuracy(view) - m.chance(view),
        _nothing,
        views=(view,),
        is_difference=True,
    )


def gap(view: str, minus: str) -> Measure:
    """Accuracy on one view minus that on another; 0 for a diverged run (see `diverged_share`)."""
    return Measure(
        f"accuracy, {view} minus {minus}",
        lambda m: m.accuracy(view) - m.accuracy(minus),
        _nothing,
        views=(view, minus),
        is_difference=True,
    )


def loss_gap(view: str, minus: str) -> Measure:
    """Loss on one view minus that on another, in nats."""
    return Measure(
        f"loss, {view} minus {minus}",
        lambda m: m.loss(view) - m.loss(minus),
        _nothing,
        **NATS,
        views=(view, minus),
        is_difference=True,
    )


def kept(cut: str, intact: str) -> Measure:
    """Share of the accuracy above chance on `intact` that remains on `cut`; 0 if there is none."""

    def share(m: MeasuredMember) -> float:
        before = m.accuracy(intact) - m.chance(intact)
        return (m.accuracy(cut) - m.chance(cut)) / before if before > 0 else 0.0

    title = f"accuracy kept, {cut} of {intact}"
    return Measure(title, share, _nothing, unit="% kept", views=(cut, intact))


def worst(*views: str) -> Measure:
    """The lowest accuracy of several views: what is left whichever pathway is cut."""
    return Measure(
        f"lowest accuracy of {', '.join(views)}",
        lambda m: min(m.accuracy(view) for view in views),
        lambda m: min(m.chance(view) for view in views),
        views=views,
    )


def steps_to(view: str, accuracy: float | int) -> Measure:
    """Logarithm of the steps until a curve reaches a threshold; the last step if it never does."""

    def steps(m: MeasuredMember) -> float:
        there = np.flatnonzero(m.curve(view)[0] >= accuracy)
        return math.log(m.record.meta["eval_steps"][int(there[0])] if there.size else m.num_steps)

    title = f"steps to {accuracy:.0%} on {view}"
    return Measure(title, steps, _log_steps, **LOG_PERCENT, curves=(view,))


def _log_steps(member: MeasuredMember) -> float:
    return math.log(member.num_steps)


def at_crossing(
    view: str,
    when: str,
    *,
    accuracy: float | int | None = None,
    loss_below: float | int | None = None,
    minus: str | None = None,
    of: str = "accuracy",
) -> Measure:
    """A curve's value where another first crosses a threshold, else at the last evaluation.

    Args:
      view: the curve that is read; `minus`: another one that is subtracted; `of`: "accuracy" or
        "loss".
      when: the curve that crosses; `accuracy`: from below, or `loss_below`: from above.

    Raises:
      ValueError: no threshold, or both.
    """
    if (accuracy is None) == (loss_below is None):
        raise ValueError("at_crossing: give accuracy or loss_below, one of the two")
    column = ("accuracy", "loss").index(of)

    def read(m: MeasuredMember) -> float:
        accuracies, losses = m.curve(when)
        crossed = losses < loss_below if accuracy is None else accuracies >= accuracy
        alive = np.flatnonzero(np.isfinite(losses))
        where = np.flatnonzero(crossed)
        row = int(where[0]) if where.size else int(alive[-1])
        return float(m.curve(view)[column][row] - (m.curve(minus)[column][row] if minus else 0.0))

    threshold = f"accuracy {accuracy:.0%}" if accuracy is not None else f"loss {loss_below:g}"
    title = f"{of}, {view}{f' minus {minus}' if minus else ''}, at {threshold} on {when}"
    lost = _nothing if minus else _guess_loss if of == "loss" else (lambda m: m.chance(view))
    shown = NATS if of == "loss" else POINTS
    names = [view, when, minus] if minus else [view, when]
    curves = tuple(dict.fromkeys(names))
    return Measure(title, read, lost, **shown, curves=curves, is_difference=bool(minus))


def train_mode_loss() -> Measure:
    """Mean training loss with dropout on since the last evaluation but one, in nats."""

    def last(m: MeasuredMember) -> float:
        values = m.record.arrays["train_loss"]
        return float(values[np.isfinite(values)][-1])

    return Measure("training loss, dropout on", last, _guess_loss, **NATS)


def trained_steps() -> Measure:
    """The logarithm of the steps that were trained: a difference of -.1 is 10% fewer."""

    def steps(m: MeasuredMember) -> float:
        return math.log(max(1, m.record.meta["last_step"]))

    return Measure("steps trained", steps, _log_steps, **LOG_PERCENT)


def diverged() -> Measure:
    """1 for a run that diverged, else 0."""
    return Measure("diverged runs", _nothing, lambda m: 1.0, unit="% of runs")


def diverged_share(on: str = "") -> Measure:
    """The share of a sweep's runs that diverged, at one seed.

    Args:
      on: a view: a run that ends with a loss on it not below half that of a guess over all outputs
        has diverged too. Adam's steps have a bounded length and norms bound the rest, so that what
        has broken down often stays finite, a little below a guess.
    """
    title = f"diverged share of the sweep{f', judged on {on}' if on else ''}"
    return Measure(
        title,
        lambda members: float(np.mean([_lost(m, on) for m in members])),
        lambda m: 1.0,
        unit="% of runs",
        views=(on,) if on else (),
        of_several=True,
    )


def largest_stable(field: str = "optim.learning_rate", on: str = "") -> Measure:
    """log2 of the largest stable value of a sweep; one step below the lowest if none is stable.

    Args:
      on: as in `diverged_share`.
    """
    from jaxreg.probe.stability import largest_stable_rate

    def octaves(members: Sequence[MeasuredMember]) -> float:
        rates = np.asarray([m.at for m in members], np.float64)
        lost = np.asarray([[_lost(m, on)] for m in members])
        return float(largest_stable_rate(rates, lost).octaves[0])

    title = f"largest stable {field}{f', judged on {on}' if on else ''}"
    views = (on,) if on else ()
    return Measure(title, octaves, lambda m: math.nan, **OCTAVES, views=views, of_several=True)


def _lost(member: MeasuredMember, on: str) -> bool:
    """Whether a run diverged or, on the named view, learned less than half of what there is."""
    if member.diverged or not on:
        return member.diverged
    return not float(member.loss(on)) < 0.5 * _guess_loss(member)


def probed(
    title: str,
    probe: Probe,
    read: Callable[[Mapping[str, np.ndarray]], float],
    *,
    lost: float | int = 0.0,
    unit: str = "points",
    scale: float | int = 100.0,
    is_difference: bool = False,
) -> Measure:
    """A number read from what a probe found in one member.

    Args:
      read: of the probe's arrays.
      lost: what a diverged member counts as.
    """
    return Measure(
        title,
        lambda m: float(read(m.found[probe.name])),
        lambda m: float(lost),
        unit=unit,
        scale=scale,
        probes=(probe,),
        is_difference=is_difference,
    )


def probed_copies(
    title: str,
    probe: Probe,
    read: Callable[[list[Mapping[str, np.ndarray]]], float],
    *,
    unit: str = "points",
    scale: float | int = 100.0,
    is_difference: bool = False,
) -> Measure:
    """A number from a probe of a member's copies; diverged copies are left out, none left is 0."""

    def of(members: Sequence[MeasuredMember]) -> float:
        alive = [m.found[probe.name] for m in members if not m.diverged]
        return float(read(alive)) if alive else 0.0

    return Measure(
        title,
        of,
        _nothing,
        unit=unit,
        scale=scale,
        probes=(probe,),
        is_difference=is_difference,
        of_several=True,
    )


def traced(
    title: str,
    trace: str,
    name: str,
    read: Callable[[np.ndarray], float],
    *,
    lost: float | int = 0.0,
    unit: str = "",
    scale: float | int = 1.0,
    is_difference: bool = False,
) -> Measure:
    """A number read from a trace, which is recorded at every evaluation.

    Args:
      trace: its name in eval.traces. name: of one of its arrays, [E, ...]
        (`jaxreg/study/engine/diagnostics.py`); NaN where it no longer trained.
      read: of that array. lost: what a diverged member counts as.
    """
    return Measure(
        title,
        lambda m: float(read(m.record.arrays[f"trace/{name}"])),
        lambda m: float(lost),
        unit=unit,
        scale=scale,
        traces=(trace,),
        is_difference=is_difference,
    )


def position_share(how: str = "moved", view: str = "validation", *, by: int = 3) -> Measure:
    """The share of accuracy above chance that is lost when positions contradict words, 0 to 1.

    (accuracy as it stands - accuracy otherwise) / (accuracy as it stands - chance): a share of the
    errors that knowledge avoids, not of the cross-entropy, which would mostly show how sure a model
    is. Nothing to lose counts as 0, and so does a diverged run.

    Args:
      how: "moved", `by` positions to the right (the rows must end in as much padding), or
        "shuffled", words in another order.
    """
    from jaxreg.probe.position import position_accuracies

    probe = Probe("positions", position_accuracies, view=view, rows=512, settings={"by": by})

    def share(m: MeasuredMember) -> float:
        found, chance = m.found[probe.name], m.chance(view)
        before = float(found["intact"]) - chance
        return (float(found["intact"]) - float(found[how])) / before if before > 0 else 0.0

    return Measure(
        f"share carried by position, {view} {how}",
        share,
        _nothing,
        unit="% of what is known",
        views=(view,),
        probes=(probe,),
    )

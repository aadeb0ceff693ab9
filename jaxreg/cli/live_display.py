"""What people see while a study runs: the study reports events, a display shows them.

The events, in the order a study reports them: `opening` (the question and what is asked), `layout`
(the table's shape), then `phase`, `progress`, `cell` and `note` in any number, and
`closing`. Accuracies come as fractions and are shown in %, losses in nats.
"""

import io
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jaxreg.cli import result_tables
from jaxreg.cli.result_tables import Fraction
from jaxreg.study.analysis.durations import duration
from jaxreg.study.analysis.metric import ACCURACY, Metric

LINE_EVERY_SECONDS = 15.0  # between progress lines in a log file
REFRESH_PER_SECOND = 2  # of the live table; rendering shares the cores with training
SCREEN = 22  # lines of the opening: a terminal's 24, less the prompt and the first progress
PLAIN_WIDTH = 100  # characters of a line in a log file


class Display:
    """The events of a study, none shown; a context manager that restores the terminal."""

    def opening(
        self, question: str, prediction: str, rows: Sequence[tuple[str, str, str, str]], scope: str
    ) -> None:
        """Shows what is asked before anything compiles.

        Args:
          question, prediction: sentences.
          rows: view, its title, a trained sentence with its answer, a held-out one with the
            question; the view that matters most first.
          scope: one line: model size, data, regime, seeds, device.
        """

    def layout(
        self,
        arms: Sequence[str],
        views: Sequence[str],
        primary: str | None,
        seeds: int,
        metric: Metric = ACCURACY,
    ) -> None:
        """Sets rows, columns, the primary view (bold), members of a full cell, and the metric."""

    def phase(self, name: str) -> None:
        """Shows the current phase: compiling, training, evaluating, probing, writing report."""

    def progress(self, done: int, total: int) -> None:
        """Shows how many of all model-steps are done, and the estimated time left."""

    def cell(self, arm: str, view: str, mean: Fraction, half_width: Fraction, count: int) -> None:
        """Sets a cell: mean over `count` members and half its 95% interval, fractions or nats."""

    def note(self, text: str) -> None:
        """Shows one line that stays."""

    def closing(
        self,
        headline: Sequence[str],
        *,
        table: Mapping,
        comparisons: Sequence[Mapping] = (),
        controls: Sequence[Mapping] = (),
        baseline: str | None = None,
        primary: str | None = None,
        warnings: Sequence[str] = (),
        timing: Mapping[str, float | int] | None = None,
        earlier: float | int = 0.0,
        report: str | None = None,
        command: str | None = None,
        metric: Metric = ACCURACY,
        accuracy: Mapping | None = None,
        margin: str = "",
    ) -> None:
        """Shows what was found.

        Args:
          headline: sentences made from the results.
          table, comparisons: "arms" and "comparisons" of results.json; a comparison may have
            "seeds_needed" besides.
          controls: mappings with name, what, passed (True, False or None: not tested) and detail.
          baseline, primary: names of an arm and a view; None where nothing is compared.
          warnings: what must be read before any number; it goes first.
          timing: phase -> seconds, of this process. earlier: seconds that those before it worked.
          report: the report's path.
          command: what to type to run it again.
          metric: what the numbers are. accuracy: the table of accuracies where they are others.
          margin: the smallest effect that matters, with its unit.
        """

    def __enter__(self) -> "Display":
        """Returns the display."""
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Gives the terminal back."""


def _asked(rows: Sequence[tuple[str, str, str, str]], count: int) -> Group:
    """The first `count` views with an example each, and how many there are besides."""
    asked = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("view", "trained", "asked"):
        asked.add_column(column)
    for name, title, trained, question in rows[:count]:
        view = Text(name.replace("_", " "))
        if title.lower() != view.plain:
            view.append(f"\n{title}", style="dim")
        asked.add_row(view, Text(trained), Text(question))
    more = len(rows) - count
    return Group(asked, *([Text(f"and {more} more in the report", style="dim")] if more else []))


class Silent(Display):
    """Shows nothing."""


class _Shown(Display):
    """What terminal and log display share: opening, closing, and the state between them."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic):
        self._console, self._clock = console, clock
        self._lock = threading.Lock()  # a live display renders in its own thread
        self._scores = result_tables.ScoreTable()
        self._phase, self._done, self._total = "", 0, 0
        self._began = self._phase_began = clock()
        # Model-steps that were there already when this phase began, after a resume.
        self._first_done: int | None = None

    def opening(
        self, question: str, prediction: str, rows: Sequence[tuple[str, str, str, str]], scope: str
    ) -> None:
        above = [
            self._cut(Text(question, style="bold"), 3),
            self._cut(Text(f"Predicted: {prediction}"), 6),
            Text(""),
        ]
        below = [Text(""), self._cut(Text(scope, style="dim"), 3)]
        room = SCREEN - sum(map(self._height, [*above, *below]))
        count = len(rows)
        while count > 1 and self._height(_asked(rows, count)) > room:
            count -= 1
        self._console.print(*above, _asked(rows, count), *below, sep="\n")

    def _height(self, part: RenderableType) -> int:
        return len(self._console.render_lines(part, pad=False))

    def _cut(self, text: Text, most: int) -> Text:
        """The first lines of a long text; the report has all of it."""
        lines = text.wrap(self._console, self._console.width)
        if len(lines) <= most:
            return text
        kept = Text("\n").join(lines[:most])
        kept.right_crop(4)
        return kept.append(" ...")

    def layout(
        self,
        arms: Sequence[str],
        views: Sequence[str],
        primary: str | None,
        seeds: int,
        metric: Metric = ACCURACY,
    ) -> None:
        with self._lock:
            self._scores.arms, self._scores.views = list(arms), list(views)
            self._scores.primary, self._scores.seeds = primary, seeds
            self._scores.metric = metric

    def phase(self, name: str) -> None:
        with self._lock:
            self._phase, self._phase_began, self._first_done = name, self._clock(), None

    def progress(self, done: int, total: int) -> None:
        with self._lock:
            self._first_done = done if self._first_done is None else self._first_done
            self._done, self._total = done, total

    def cell(self, arm: str, view: str, mean: Fraction, half_width: Fraction, count: int) -> None:
        with self._lock:
            self._scores.put(arm, view, mean, half_width, count)

    def closing(
        self,
        headline: Sequence[str],
        *,
        table: Mapping,
        comparisons: Sequence[Mapping] = (),
        controls: Sequence[Mapping] = (),
        baseline: str | None = None,
        primary: str | None = None,
        warnings: Sequence[str] = (),
        timing: Mapping[str, float | int] | None = None,
        earlier: float | int = 0.0,
        report: str | None = None,
        command: str | None = None,
        metric: Metric = ACCURACY,
        accuracy: Mapping | None = None,
        margin: str = "",
    ) -> None:
        print_ = self._console.print
        print_()
        for sentence in warnings:
            print_(Text(sentence, style="bold red"))
        print_(
            result_tables.closing(
                table=table,
                comparisons=comparisons,
                controls=controls,
                baseline=baseline,
                primary=primary,
                width=self._console.width,
                metric=metric,
                accuracy=accuracy,
                margin=margin,
            )
        )
        print_()
        for sentence in headline:
            print_(Text(sentence, style="bold"))
        if timing:
            spent = ", ".join(f"{name} {duration(seconds)}" for name, seconds in timing.items())
            own = sum(timing.values())
            several = f" this time, {duration(own + earlier)} in all" if earlier else ""
            print_(Text(f"Time: {duration(own)}{several} ({spent})"))
        for name, line in (("Report", report), ("Again", command)):
            if line:  # a path or command stays one line, for copying
                print_(Text(f"{name}: {line}"), soft_wrap=True)

    def seconds_left(self) -> float | int | None:
        """Seconds until all model-steps are done, at this phase's speed; None while unknown."""
        spent = self._clock() - self._phase_began
        new = self._done - (self._first_done or 0)
        if self._first_done is not None and new > 0:
            return spent * (self._total - self._done) / new
        return None

    def _status(self) -> str:
        if self._first_done is None:
            return self._phase
        left = self.seconds_left()
        eta = ""
        if left is not None and self._done < self._total:
            eta = f", about {duration(left)} left"
        share = f"{100 * self._done // max(self._total, 1)}%"
        return f"{self._phase} {share}, {self._done:,} of {self._total:,} model-steps{eta}"


class Plain(_Shown):
    """Lines for log files and CI: phases, progress, and the primary view of each finished arm."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic):
        super().__init__(console, clock=clock)
        self._last_line = clock()

    def phase(self, name: str) -> None:
        super().phase(name)
        self._line(name)

    def progress(self, done: int, total: int) -> None:
        super().progress(done, total)
        if self._clock() - self._last_line >= LINE_EVERY_SECONDS:
            self._line(self._status())

    def cell(self, arm: str, view: str, mean: Fraction, half_width: Fraction, count: int) -> None:
        super().cell(arm, view, mean, half_width, count)
        if view == self._scores.primary and count == self._scores.seeds:
            metric = self._scores.metric
            unit = "%" if metric == ACCURACY else f" {metric.level_unit}"
            self._line(f"{arm}: {view} {metric.number(mean)}{unit}, {count} seeds")

    def note(self, text: str) -> None:
        self._line(text)

    def _line(self, text: str) -> None:
        self._last_line = self._clock()
        elapsed = duration(self._last_line - self._began)
        self._console.print(Text(f"[{elapsed}] {text}"), soft_wrap=True)


class Terminal(_Shown):
    """A live table under a line with phase and time left; what was printed before scrolls up."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic):
        super().__init__(console, clock=clock)
        self._live: Live | None = None

    def phase(self, name: str) -> None:
        super().phase(name)
        if self._live is None:
            self._live = Live(
                get_renderable=self.render,
                console=self._console,
                transient=True,
                refresh_per_second=REFRESH_PER_SECOND,
            )
            self._live.start()

    def note(self, text: str) -> None:
        self._console.print(Text(text))

    def closing(self, headline: Sequence[str], **results) -> None:
        self._stop()
        super().closing(headline, **results)

    def __exit__(self, kind, error, trace) -> None:
        if self._live is not None:
            self._stop()
            self._console.print(self.render())  # interrupted: what was known stays on the screen

    def render(self) -> RenderableType:
        """The live part as it stands now."""
        with self._lock:
            line = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=max(self._total, 1), completed=self._done, width=20)
            elapsed = duration(self._clock() - self._began)
            line.add_row(Text(elapsed, style="dim"), bar, Text(self._status(), style="bold"))
            return Group(result_tables.live(self._scores, self._console.width), line)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def open_display(stream: TextIO | io.StringIO | None = None) -> Display:
    """A live display where someone watches, plain lines elsewhere.

    Args:
      stream: where to; None is the standard output.
    """
    shown = console(stream)
    return Terminal(shown) if shown.is_terminal else Plain(shown)


def console(stream: TextIO | io.StringIO | None = None, *, width: int = PLAIN_WIDTH) -> Console:
    """A console of the terminal's width and colors; plain text where the output is no terminal.

    A file, a pipe or a terminal without a cursor gets plain text, whatever COLUMNS, TERM and
    FORCE_COLOR are.

    Args:
      stream: where to; None is the standard output.
      width: characters of a line where there is no terminal.
    """
    out = sys.stdout if stream is None else stream
    if out.isatty():
        found = Console(file=out)
        if not found.is_dumb_terminal:
            return found
    return Console(file=out, width=width, force_terminal=False, color_system=None)

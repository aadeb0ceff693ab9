"""What people see: numbers, units, time left, and a table that fits the screen."""

import io

import pytest
from rich.console import Console

from jaxreg.cli import live_display, result_tables
from jaxreg.data.catsat import source
from jaxreg.study.analysis.durations import duration

VIEWS = source.VIEW_NAMES
ARMS = ("none", "attention_0.1", "attention_0.3+decay")


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(kind, *, width=100):
    clock, stream = Clock(), io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=kind is live_display.Terminal, color_system=None
    )
    return kind(console, clock=clock), clock, stream


def result(mean, low, high):
    return {"mean": mean, "ci95": [low, high], "per_seed": [mean]}


def closing_results():
    table = {arm: {view: result(0.721, 0.68, 0.76) for view in VIEWS} for arm in ARMS}
    comparisons = [
        {
            "arm": arm,
            "split": view,
            "difference": 0.0713,
            "ci95": [0.03, 0.112],
            "p": 0.001,
            "p_holm": 0.0004 if view == "recombination" else None,
            "per_seed": [],
            "verdict": "inconclusive" if view == "recombination" else None,
            "seeds_needed": 31,
        }
        for arm in ARMS[1:]
        for view in VIEWS
    ]
    controls = [
        {"name": "A/A", "what": "no difference", "passed": True, "detail": "SD 7.1"},
        {"name": "off", "what": "equal", "passed": False, "detail": ""},
        {"name": "more", "what": "supported", "passed": None, "detail": ""},
    ]
    return {
        "table": table,
        "comparisons": comparisons,
        "controls": controls,
        "baseline": "none",
        "primary": "recombination",
    }


@pytest.mark.parametrize("width", [60, 80, 100, 140, 250])
def test_the_live_table_fits_and_keeps_the_primary_view(width):
    board = result_tables.ScoreTable(list(ARMS), list(VIEWS), "recombination", 12)
    for arm in ARMS:
        for view in VIEWS:
            board.put(arm, view, 0.7, 0.04, 12)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(result_tables.live(board, width))
    text = console.file.getvalue()
    assert "recombination" in text and text.count("attention_0.3+decay") == 1
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.count("70.0 ±4.0") == len(ARMS) * len(
        result_tables.choose_views(VIEWS, "recombination", width - 21)
    )


def test_views_are_kept_in_their_order_the_important_ones_first():
    kept = result_tables.choose_views(VIEWS, "recombination", 50)
    assert kept == ("train", "validation", "recombination", "template")
    assert result_tables.choose_views(VIEWS, "recombination", 10_000) == VIEWS
    assert result_tables.choose_views(("x", "y"), None, 1) == ("x",)


def test_cells_say_what_is_known():
    terminal, _, _ = made(live_display.Terminal)
    terminal.layout(ARMS, ("train", "recombination"), "recombination", 12)
    terminal.cell("none", "recombination", 0.7213, 0.041, 12)
    terminal.cell("none", "train", None, None, 3)
    terminal.cell("later", "train", 1.0, None, 1)
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(terminal.render())
    lines = console.file.getvalue().splitlines()
    [row] = [line for line in lines if line.strip().startswith("none")]
    assert row.split() == ["none", "-", "72.1", "±4.1"]
    [row] = [line for line in lines if line.strip().startswith("later")]
    assert row.split() == ["later", "100.0", "·"]


def test_time_left_counts_from_the_phase_s_start_and_ignores_what_was_resumed():
    shown, clock, _ = made(live_display.Plain)
    clock.now = 100.0
    shown.phase("training")
    assert shown.seconds_left() is None
    shown.progress(5_000, 10_000)
    assert shown.seconds_left() is None
    clock.now = 120.0
    shown.progress(6_000, 10_000)
    assert shown.seconds_left() == pytest.approx(80.0)


def test_plain_lines_are_sparse():
    shown, clock, stream = made(live_display.Plain)
    shown.layout(ARMS, VIEWS, "recombination", 12)
    shown.phase("training")
    for step in range(100):
        clock.now += 1.0
        shown.progress(step, 100)
        shown.cell("none", "train", 0.5, 0.1, step)
    shown.cell("none", "recombination", 0.7, 0.04, 11)
    shown.cell("none", "recombination", 0.7213, 0.04, 12)
    lines = stream.getvalue().splitlines()
    assert sum("model-steps" in line for line in lines) == 6
    assert lines[-1] == "[1:40] none: recombination 72.1%, 12 seeds"
    assert "\x1b" not in stream.getvalue()


def test_the_opening_fits_a_screen_however_much_there_is_to_say():
    words = "a sentence that goes on and on, "
    rows = [(f"set_{i}", f"{words}", f"{words}-> x", f"{words}-> ?") for i in range(17)]
    shown, _, stream = made(live_display.Plain, width=80)
    shown.opening(words * 9, words * 30, rows, words * 7)
    lines = stream.getvalue().splitlines()
    assert len(lines) <= live_display.SCREEN and max(map(len, lines)) <= 80
    assert lines[0].startswith("a sentence") and any(line.endswith(" ...") for line in lines)
    assert "set 0" in stream.getvalue() and "more in the report" in stream.getvalue()


def test_an_opening_with_room_shows_every_view():
    shown, _, stream = made(live_display.Plain, width=80)
    shown.opening(
        "Which?", "This.", [(f"set_{i}", f"Set {i}", "a -> b", "c -> ?") for i in range(9)], "small"
    )
    text = stream.getvalue()
    assert all(f"set {i}" in text for i in range(9)) and "more in the report" not in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_final_tables_fit_and_cut_nothing_off(width):
    found = closing_results()
    for row in found["comparisons"]:
        row |= {"difference": 0.188, "ci95": [0.161, 0.216], "by_margin": True}
        row["verdict"] = row["verdict"] and "supported"
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(result_tables.closing(**found, width=width))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(console.file.getvalue().split())
    assert "+18.8 [+16.1, +21.6]" in text and "supported," in text and "by the margin" in text
    assert "attention_0.3+decay" in text and "…" not in text and "31" in text and "errors" in text


@pytest.mark.parametrize("kind", [live_display.Plain, live_display.Terminal])
def test_opening_and_closing_show_everything(kind):
    shown, _, stream = made(kind)
    with shown:
        shown.opening(
            "Which one?",
            "It gains 11.",
            [("recombination", "unseen pairs", "the cat SIT -> sits", "a dog SIT -> ?")],
            "2 layers",
        )
        shown.phase("training")
        shown.note("resumed at step 40")
        command = (
            "jaxreg compare experiments/cat_sat.py --workdir='a very long directory name that is"
            " wider than a screen is'"
        )
        shown.closing(
            ["Dropout .3 helped."],
            **closing_results(),
            timing={"compiling": 17.0, "training": 57.4},
            report="runs/x/report.html",
            command=command,
        )
    text = stream.getvalue()
    for word in (
        "Which one?",
        "Predicted: It gains 11.",
        "a dog SIT -> ?",
        "2 layers",
        "resumed at step 40",
        "72.1 [68, 76]",
        "+7.1 [+3.0, +11.2]",
        "errors +0%",
        "<.001",
        "inconclusive",
        " 31",
        "+7.1 ±4.1",
        "control passed",
        "control FAILED",
        "control not tested",
        "Dropout .3 helped.",
        "compiling 17 s, training 57 s",
        "Report: runs/x/report.html",
        f"Again: {command}",
    ):
        assert word in text, word
    assert "attention_0.3+decay" in text


@pytest.mark.parametrize("kind", [live_display.Plain, live_display.Terminal])
def test_a_run_that_goes_on_says_this_time_and_all_time(kind):
    shown, _, stream = made(kind)
    with shown:
        shown.closing(["Done."], **closing_results(), timing={"training": 50.0}, earlier=600.0)
    assert "Time: 50 s this time, 10:50 in all (training 50 s)" in stream.getvalue()


def test_a_run_without_comparisons_shows_its_accuracies():
    shown, _, stream = made(live_display.Plain)
    shown.closing(["Done."], table={"train": {"recombination": result(0.5, 0.4, None)}})
    assert "50.0" in stream.getvalue()


def test_an_interrupted_terminal_is_given_back_with_what_was_known():
    shown, _, stream = made(live_display.Terminal)
    with pytest.raises(KeyboardInterrupt), shown:
        shown.phase("training")
        shown.cell("none", "train", 0.123, None, 1)
        raise KeyboardInterrupt
    assert "12.3" in stream.getvalue().splitlines()[-4] + stream.getvalue()
    assert stream.getvalue().rstrip("\n").count("\x1b[?25h") == 1, "the cursor is shown again"


def test_every_display_takes_every_event():
    events = {"opening", "layout", "phase", "progress", "cell", "note", "closing"}
    assert events <= vars(live_display.Display).keys()
    for kind in (live_display.Plain, live_display.Terminal):
        for event in events:
            assert getattr(kind, event) is not getattr(live_display.Display, event), event
    with live_display.Silent() as silent:
        silent.layout(ARMS, VIEWS, "recombination", 12)
        silent.closing(["x"], **closing_results())


def test_no_terminal_means_plain_lines():
    assert isinstance(live_display.open_display(io.StringIO()), live_display.Plain)


def test_durations_and_numbers():
    assert [duration(s) for s in (8.6, 65, 7380)] == ["9 s", "1:05", "2:03:00"]
    assert result_tables.percent(None) == result_tables.points(float("nan")) == "-"
    assert result_tables.points(-0.0164) == "-1.6"


@pytest.mark.parametrize("kind", [live_display.Plain, live_display.Terminal])
def test_warnings_come_before_any_number(kind):
    shown, _, stream = made(kind)
    with shown:
        shown.closing(["Done."], warnings=["Every run diverged."], **closing_results())
    text = stream.getvalue()
    assert text.index("Every run diverged.") < text.index("72.1") < text.index("Done.")

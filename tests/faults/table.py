"""The table of faults: each with what is typed, its exit code, its message and what is left. The
tests run it, and README.md is made of it.

python -m tests.faults.table    writes README.md
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tests.helpers import damage, disks

SAME, RESUMES, REFUSED = "same", "resumes", "refused"
OUTCOMES = {
    SAME: "the bytes of an undisturbed run",
    RESUMES: (
        "nothing is lost: put right, the same command ends with the bytes of an undisturbed run"
    ),
    REFUSED: "refused; no file changes",
}
STOPPED, FINISHED, FRESH = "stopped", "finished", "fresh"


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault, played with the real command in a process of its own.

    Attributes:
      do: what happens. code: the exit code. says: parts of the message, besides those that `do`
        adds. then: the outcome.
      stage: of the run before: stopped after some checkpoints, finished, or none yet.
      also: more words of the command.
      pmap: also on two devices in the system tests (all are with --slow).
    """

    name: str
    what: str
    do: Callable[[damage.Scene], None] | None
    code: int = 0
    says: tuple[str, ...] = ()
    then: str = SAME
    stage: str = STOPPED
    also: tuple[str, ...] = ()
    pmap: bool = False


BAD, FORCE = "skipped in", "to start afresh, remove that folder"
KEPT = "what was saved before is kept, and the same command goes on from there"

FAULTS = {
    "Checkpoints": (
        Fault(
            "flipped_bit",
            "a bit of the newest checkpoint's values is flipped",
            damage.flipped_bit,
            says=(BAD,),
            pmap=True,
        ),
        Fault(
            "truncated",
            "a file of the newest checkpoint is cut in half",
            damage.truncated,
            says=(BAD,),
            pmap=True,
        ),
        Fault(
            "absent",
            "a file of the newest checkpoint is gone",
            damage.absent,
            says=(BAD,),
            pmap=True,
        ),
        Fault(
            "manifest_flipped",
            "a bit of its manifest is flipped",
            damage.manifest_flipped,
            says=(BAD,),
        ),
        Fault(
            "empty_step", "an empty step directory is the newest", damage.empty_step, says=(BAD,)
        ),
        Fault(
            "half_written_step",
            "the newest step was never completed",
            damage.half_written_step,
            says=(BAD,),
        ),
        Fault(
            "foreign_step",
            "step directories of another program",
            damage.foreign_step,
            says=(BAD,),
            pmap=True,
        ),
        Fault(
            "all_bad",
            "every checkpoint is damaged; removing the folder, as told, forces a fresh start",
            damage.all_bad,
            2,
            ("no checkpoint in", "is usable", "does not start afresh in silence", FORCE),
            RESUMES,
        ),
        Fault("all_gone", "the folder of checkpoints is gone", damage.all_gone),
        Fault(
            "foreign_members",
            "a checkpoint of members that nobody asked for, such as another run's: they are not"
            " used",
            damage.foreign_members,
            says=(
                "that this command does not train",
                "it is not used, and stays until it is saved over",
            ),
        ),
        Fault(
            "other_leaves",
            "a checkpoint of another model",
            damage.other_leaves,
            2,
            ("is of another program", FORCE),
            RESUMES,
        ),
        Fault(
            "other_dtype",
            "a checkpoint of another dtype",
            damage.other_dtype,
            2,
            ("Nothing is cast", FORCE),
            RESUMES,
        ),
        Fault(
            "other_config",
            "the directory was run with another config",
            None,
            2,
            (
                "was run with train.batch_size=8, not 4; choose another --workdir",
                "optim.weight_decay=",
            ),
            REFUSED,
            also=("--config.train.batch_size=4", "--config.optim.weight_decay=.5"),
        ),
        Fault(
            "other_seed",
            "the directory was run with another seed",
            None,
            2,
            ("was run with seed=0, not 5; choose another --workdir",),
            REFUSED,
            also=("--config.seed=5",),
        ),
    ),
    "The log, the members, and what the directory says about itself": (
        Fault(
            "half_a_line", "half a line at the end of metrics.jsonl", damage.half_a_line, pmap=True
        ),
        Fault("rows_beyond", "rows in metrics.jsonl beyond the resumed step", damage.rows_beyond),
        Fault(
            "nonsense_in_metrics",
            "a line of metrics.jsonl that is no JSON",
            damage.nonsense_in_metrics,
            stage=FINISHED,
        ),
        Fault("metrics_gone", "metrics.jsonl is gone", damage.metrics_gone, stage=FINISHED),
        Fault(
            "member_flipped",
            "a bit of a trained member is flipped",
            damage.member_flipped,
            stage=FINISHED,
        ),
        Fault(
            "member_cut",
            "a trained member's file is cut in half",
            damage.member_cut,
            stage=FINISHED,
        ),
        Fault("results_gone", "results.json is gone", damage.results_gone, stage=FINISHED),
        Fault("results_cut", "results.json is cut in half", damage.results_cut, stage=FINISHED),
        Fault("config_gone", "config.json is gone", damage.config_gone),
        Fault(
            "config_cut",
            "config.json is cut in half",
            damage.config_cut,
            2,
            ("config.json: is damaged", "put a copy back, or remove it"),
            RESUMES,
        ),
        Fault(
            "environment_cut",
            "environment.json is cut in half",
            damage.environment_cut,
            2,
            ("environment.json: is damaged",),
            RESUMES,
        ),
        Fault("temporary_left", "files that a killed process had begun", damage.temporary_left),
        Fault("stale_lock", "a lock file of a process that is dead", damage.stale_lock),
    ),
    "Where the directory is (all of these have a space in their path)": (
        Fault("relative", "a relative run directory", damage.relative),
        Fault("home", "a run directory with `~`", damage.home),
        Fault("through_a_link", "a run directory through a symbolic link", damage.through_a_link),
        Fault("moved", "the run directory was moved", damage.moved),
        Fault(
            "read_only_parent",
            "a run directory that cannot be made",
            disks.read_only_parent,
            2,
            ("cannot be made",),
            REFUSED,
        ),
    ),
    "Disks": (
        Fault(
            "full_checkpoints",
            "the disk is full at a checkpoint",
            disks.full_checkpoints,
            2,
            ("could not be saved, older checkpoints are untouched",),
            RESUMES,
        ),
        Fault(
            "limited_checkpoints",
            "a checkpoint's file may not be so large",
            disks.limited_checkpoints,
            2,
            ("could not be saved, older checkpoints are untouched",),
            RESUMES,
            pmap=True,
        ),
        Fault(
            "read_only_checkpoints",
            "the checkpoints are on a read-only disk",
            disks.read_only_checkpoints,
            2,
            ("older checkpoints are untouched",),
            RESUMES,
        ),
        Fault(
            "full_directory",
            "the disk is full when the command starts",
            disks.full_directory,
            2,
            (KEPT,),
            RESUMES,
        ),
        Fault(
            "full_at_metrics",
            "the disk is full at metrics.jsonl",
            disks.full_at_metrics,
            2,
            (KEPT,),
            RESUMES,
            stage=FINISHED,
        ),
        Fault(
            "limited_metrics",
            "metrics.jsonl may not be so large",
            disks.limited_metrics,
            2,
            (KEPT,),
            RESUMES,
            stage=FINISHED,
        ),
        Fault(
            "read_only_directory",
            "the run directory is on a read-only disk",
            disks.read_only_directory,
            2,
            (KEPT,),
            RESUMES,
        ),
        Fault(
            "full_data",
            "the disk is full while data are prepared",
            disks.full_data,
            2,
            ("$JAXREG_DATA may name another folder",),
            RESUMES,
        ),
        Fault(
            "limited_data",
            "a data file may not be so large",
            disks.limited_data,
            2,
            ("$JAXREG_DATA may name another folder",),
            RESUMES,
        ),
        Fault(
            "read_only_data",
            "the data cache is on a read-only disk",
            disks.read_only_data,
            2,
            ("$JAXREG_DATA may name another folder",),
            RESUMES,
        ),
    ),
    "Data files": (
        Fault("data_missing", "a data file is missing", damage.data_missing),
        Fault("data_truncated", "a data file is cut in half", damage.data_truncated),
        Fault("data_flipped", "a bit of a data file is flipped", damage.data_flipped, pmap=True),
        Fault(
            "data_of_another_grammar",
            "data files made by another version of the grammar",
            damage.data_of_another_grammar,
        ),
        Fault(
            "data_metadata_gone",
            "the description of the data files is missing",
            damage.data_metadata_gone,
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Told:
    """A fault that has a test of its own: `test` is its file and name."""

    what: str
    code: str
    says: str
    then: str
    test: str


_GO_ON = "interrupted; the same command goes on: jaxreg ..."
_KILLS, _SAME = "test_kills.py::", OUTCOMES[SAME]
_CHAIN = f"{_KILLS}test_after_all_this_the_bytes_are_those_of_the_undisturbed_run"
_ALONE = (
    f"{_KILLS}test_on_one_device_it_goes_on_as_exactly_and_half_a_compile_cache_costs_time_only"
)

SIGNALS = (
    Told("SIGKILL at a random moment", "killed", "", _SAME, _CHAIN),
    Told("SIGKILL during a save", "killed", "", _SAME, _CHAIN),
    Told("SIGKILL during an evaluation", "killed", "", _SAME, _CHAIN),
    Told("SIGKILL right after the last checkpoint", "killed", "", _SAME, _CHAIN),
    Told("SIGKILL right after a member was stored", "killed", "", _SAME, _CHAIN),
    Told(
        "SIGKILL during the report",
        "killed",
        "",
        "results.json was whole before it; " + _SAME,
        f"{_KILLS}test_killed_while_it_reports_the_results_are_whole",
    ),
    Told(
        "SIGKILL, a hundred times",
        "killed",
        "",
        _SAME,
        "test_soak.py::test_the_committed_record_has_a_hundred_kills_and_no_loss",
    ),
    Told(
        "SIGTERM",
        "75",
        _GO_ON,
        _SAME,
        f"{_KILLS}test_sigterm_and_ctrl_c_finish_the_chunk_save_and_say_how_to_go_on",
    ),
    Told(
        "Ctrl-C",
        "75",
        _GO_ON,
        _SAME,
        f"{_KILLS}test_sigterm_and_ctrl_c_finish_the_chunk_save_and_say_how_to_go_on",
    ),
    Told(
        "SIGTERM twice",
        "-15",
        "finishing this chunk, saving; press again to stop at once",
        _SAME,
        _ALONE,
    ),
    Told(
        "Ctrl-C twice",
        "75",
        "interrupted; the same command goes on from the last save",
        _SAME,
        _ALONE,
    ),
    Told("half-written files in the compile cache", "0", "", _SAME, _ALONE),
    Told(
        "two processes on one run directory",
        "2",
        "is in use by process ...; wait for it or choose another directory",
        "the first one notices nothing",
        f"{_KILLS}test_a_second_process_on_the_directory_is_refused_in_one_line",
    ),
    Told(
        "more seeds and arms join a directory that was killed",
        "0",
        "",
        "the bytes of a fresh run of all of them",
        _CHAIN,
    ),
    Told(
        "resumed on fewer devices",
        "0",
        "resumed on another machine or other versions (devices changed)",
        "done, and marked in environment.json",
        f"{_KILLS}test_resumed_on_fewer_devices_it_goes_on_and_marks_the_run",
    ),
    Told(
        "NaN in the loss of one arm of many",
        "0",
        "",
        "it counts as chance; the others' bytes are those of a run without it",
        f"{_KILLS}test_a_member_whose_loss_is_nan_is_marked_and_moves_no_other",
    ),
    Told(
        "any file of the newest checkpoint flipped, cut or gone",
        "0",
        "skipped in ...; Using step ...",
        _SAME,
        "test_every_file.py::test_every_file_of_the_newest_checkpoint",
    ),
    Told(
        "an exception in one's own penalty, while it trains",
        "2",
        "their traceback; the exception comes from FILE, not from jaxreg",
        "the last good step is kept; " + _SAME,
        "test_own_code.py::test_while_it_trains",
    ),
    Told(
        "an exception in one's own penalty, when it is compiled",
        "2",
        "their traceback, from their own line on",
        "what was trained before is kept",
        "test_own_code.py::test_when_it_is_compiled",
    ),
)

EIGHT = {
    "flipped_bit",
    "half_written_step",
    "all_bad",
    "other_config",
    "half_a_line",
    "member_flipped",
    "config_cut",
    "full_checkpoints",
}
"""The faults of the README's test command, one of each kind; all the others are system tests."""


def page() -> str:
    """README.md."""
    from tests.helpers.mistakes import MISTAKES

    faults, wrong = sum(map(len, FAULTS.values())) + len(SIGNALS), sum(map(len, MISTAKES.values()))
    parts = [
        "# What may go wrong, and what comes of it",
        "",
        (
            "Made by `python -m tests.faults.table` from the table that the tests run; a test"
            " compares. Each fault is played with the real command in a"
        ),
        (
            "process of its own, with dropout on, on one device and (those marked *, all of them"
            " with `--slow`) on two under `pmap`."
        ),
        (
            f"{faults} faults and {wrong} mistakes stand here; tests/cli/test_mistakes.py has those"
            " of the command line. No mistake of a person gives a"
        ),
        (
            "traceback, except that of their own code. Exit codes: 0 done, 2 a mistake or a disk,"
            " 75 interrupted; a process that was killed has none."
        ),
        "",
        (
            "*The same bytes*: results.json, config.json, the members' files (scores, curves, final"
            " parameters) and the rows about learning in"
        ),
        "metrics.jsonl equal those of an undisturbed run.",
        "",
        (
            "`python -m tests.faults.soak --kills=100` kills one comparison a hundred times: [its"
            " record](soak_record.json)."
        ),
        "",
        "## Signals, and what has a test of its own",
        "",
        *_header("what happens"),
    ]
    parts += [f"| {row.what} | {row.code} | {_text(row.says)} | {row.then} |" for row in SIGNALS]
    for title, rows in FAULTS.items():
        parts += ["", f"## {title}", "", *_header("what happens")]
        parts += [
            f"| {row.what}{'*' if row.pmap else ''} | {row.code} | {_text('; '.join(row.says))} |"
            f" {OUTCOMES[row.then]} |"
            for row in rows
        ]
    for title, cases in MISTAKES.items():
        parts += ["", f"## {title}", "", "| mistake | exit code | message |", "|---|---|---|"]
        parts += [f"| {case.what} | 2 | {_text(' ... '.join(case.says))} |" for case in cases]
    return "\n".join(parts) + "\n"


def _header(first: str) -> list[str]:
    return [f"| {first} | exit code | message | what is left |", "|---|---|---|---|"]


def _text(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    (Path(__file__).parent / "README.md").write_text(page())

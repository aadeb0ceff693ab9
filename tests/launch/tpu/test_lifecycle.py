"""Whatever happens to a launch, its TPU is deleted, or it says what stays and how to delete it.
With a fake gcloud and real processes.
"""

import os
import shlex
import signal
import time

import pytest

from tests.helpers.launch_place import TPU

SAVES = "trap 'echo saved; exit 75' TERM; echo at work; while true; do sleep 0.05; done"


def command(text: str) -> tuple[str, ...]:
    return ("--", "bash", "-c", text)


def test_it_creates_runs_shows_fetches_and_deletes(place):
    (place.home / "mine.txt").write_text("of mine")
    script = (
        "mkdir -p out; cat mine.txt > out/r; echo hello from $HOME; echo oops >&2; printf 'no"
        " newline'"
    )
    said = place.run(*TPU, "--copy=mine.txt", *command(script), "--workdir=out")
    assert f"hello from {place.cloud.home('t', 0)}\noops\nno newline\n" in said
    for line in (
        "t: creating t: v5litepod-8, on demand, in z",
        "t: state: READY",
        "t: attempt 1: running",
        "t: results: launches/t/out",
        "t: t is deleted; nothing of it is left running",
    ):
        assert line in said, said
    assert (
        place.cloud.verbs()
        == [
            "tpu-vm create",
            "tpu-vm scp",
            "tpu-vm ssh",
            "tpu-vm ssh",
            "tpu-vm scp",
            "tpu-vm delete",
        ]
        and place.clean()
    )
    assert (place.home / "launches/t/out/r").read_text() == "of mine"
    logs = place.home / "launches/t/logs/t"
    assert (
        logs / "attempt-1/worker-0.log"
    ).read_text() == f"hello from {place.cloud.home('t', 0)}\noops\nno newline\n"
    assert "$ gcloud compute tpus tpu-vm create t" in (logs / "launch.log").read_text()


@pytest.mark.system
def test_all_workers_run_at_once_and_each_has_its_file(place):
    place.cloud.plan(workers=4, environment={"ME": "{worker}"})
    said = place.run(
        *(word.replace("v5litepod-8", "v5litepod-16") for word in TPU),
        *command("echo worker $ME; echo $JAXREG_DISTRIBUTED"),
    )
    assert "worker 0\nauto\n" in said and "worker 1" not in said, "only worker 0 is shown"
    assert "note: v5litepod-16 has 4 hosts; the command runs on all of them" in said
    for worker in range(4):
        assert (
            place.home / f"launches/t/logs/t/attempt-1/worker-{worker}.log"
        ).read_text() == f"worker {worker}\nauto\n"
    runs = [call for call in place.cloud.calls() if any("run.sh" in word for word in call)]
    assert len(runs) == 4 and place.clean()


def test_a_failing_command_is_fetched_deleted_and_its_code_passed_on(place):
    said = place.run(
        *TPU, *command("mkdir out; touch out/half; echo bad news; exit 3"), "--workdir=out", code=3
    )
    assert "bad news" in said
    log = "launches/t/logs/t/attempt-1/worker-0.log"
    assert f"the command failed on worker 0 with exit code 3; its output: {log}" in said
    assert (place.home / "launches/t/out/half").exists() and place.clean()
    assert place.cloud.verbs().count("tpu-vm ssh") == 2, "a failure is not repeated"


@pytest.mark.system
def test_one_worker_that_fails_ends_the_others(place):
    place.cloud.plan(workers=2, environment={"ME": "{worker}"})
    words = [word.replace("v5litepod-8", "v4-16") for word in TPU]
    said = place.run(*words, *command("echo $ME; [[ $ME == 0 ]] || exit 2"), code=2)
    assert "failed on worker 1 with exit code 2" in said and place.clean()


@pytest.mark.system
def test_what_is_interrupted_goes_on_on_the_same_machine(place):
    script = (
        "echo $(cat times 2>/dev/null)x > times; cat times; [[ $(cat times) == xxx ]] || exit 75"
    )
    said = place.run(*TPU, *command(script))
    assert "x\n" in said and "xxx" in said and "attempt 3: running" in said and place.clean()
    assert place.cloud.verbs().count("tpu-vm create") == 1, "the machine was there all the time"


@pytest.mark.system
def test_a_lease_that_the_lost_machine_left_is_waited_for(place):
    second = "{ echo gs://b/r is in use by process 7 on h; exit 2; }"
    script = (
        f"echo x >> times; n=$(wc -l < times); ((n == 1)) && exit 75; ((n == 2)) && {second}; echo"
        " mine"
    )
    said = place.run(*TPU, *command(script))
    assert (
        "the run directory still counts as the lost machine's; attempt 3" in said
        and "\nmine\n" in said
        and place.clean()
    )


@pytest.mark.system
def test_attempts_are_bounded_and_the_code_says_that_it_may_go_on(place):
    said = place.run(*TPU, "--attempts=2", *command("exit 75"), code=75)
    assert (
        "that was attempt 2 of 2: given up (--attempts=N); the same command goes on" in said
        and place.clean()
    )


def test_a_refused_creation_says_why_and_leaves_nothing(place):
    place.cloud.plan(create=["quota"])
    said = place.run(*TPU, *command("true"), code=2)
    assert (
        "creating t was refused: ERROR: (gcloud.compute.tpus) RESOURCE_EXHAUSTED: Quota limit"
        in said
        and "Traceback" not in said
    )
    assert "tpu-vm ssh" not in place.cloud.verbs() and place.clean()


@pytest.mark.system
def test_no_room_is_tried_again(place):
    place.cloud.plan(create=["no room", "no room"])
    said = place.run(*TPU, "--spot", *command("echo made it"))
    assert said.count("no room for it now") == 2 and "made it" in said and place.clean()
    assert place.cloud.verbs().count("tpu-vm create") == 3


def test_a_tpu_of_somebody_else_is_not_touched(place):
    place.cloud.put("t", state="READY", workers=1, port=1)
    said = place.run(*TPU, *command("true"), code=2)
    assert "t exists already in z (state READY): --reuse uses it" in said
    assert "gcloud compute tpus tpu-vm delete t --zone=z --project=p --quiet" in said
    assert place.cloud.verbs() == [] and place.cloud.nodes() == ["t"]
    said = place.run(*TPU, "--reuse", *command("echo mine now"))
    assert "mine now" in said and "tpu-vm create" not in place.cloud.verbs() and place.clean()


@pytest.mark.system
def test_one_that_appears_in_between_is_not_deleted(place):
    place.cloud.plan(create=["exists"])
    said = place.run(*TPU, *command("true"), code=2)
    assert "ALREADY_EXISTS" in said and "tpu-vm delete" not in place.cloud.verbs()


@pytest.mark.system
def test_ctrl_c_lets_the_command_save_fetches_and_deletes(place):
    process = place.start(*TPU, *command(f"mkdir out; touch out/kept; {SAVES}"), "--workdir=out")
    log = place.home / "launches/t/logs/t/attempt-1/worker-0.log"
    place.until(lambda: log.exists() and "at work" in log.read_text(), process)
    place.interrupt(process)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 75, said
    assert (
        "stopping: the command may save first" in said
        and "saved" in log.read_text()
        and "t is deleted" in said
    )
    assert (place.home / "launches/t/out/kept").exists() and place.clean()


@pytest.mark.system
def test_a_closed_terminal_while_it_is_created_deletes_what_comes(place):
    place.cloud.plan(creating=2.0, late=True)
    process = place.start(*TPU, *command("true"))
    place.until(lambda: "tpu-vm create" in place.cloud.verbs(), process)
    process.stdout.close()  # whatever it says now fails
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=200) == 75
    time.sleep(2.5)  # longer than a creation takes: it does not come to life afterwards
    assert place.clean() and "tpu-vm ssh" not in place.cloud.verbs()


@pytest.mark.system
def test_a_deletion_that_fails_is_tried_again_then_left_to_the_person(place):
    place.cloud.plan(delete=2)
    assert "t is deleted" in place.run(*TPU, *command("true")) and place.clean()
    place.cloud.plan(delete=99)
    said = place.run(*TPU, *command("echo fine"), code=1)
    [line] = [line for line in said.splitlines() if "COULD NOT BE DELETED" in line]
    assert "the backend had a bad day" in line and place.cloud.nodes() == ["t"]
    place.cloud.plan(delete=0)
    words = shlex.split(line.partition("run this: ")[2])
    assert os.spawnvpe(os.P_WAIT, words[0], words, place.environment) == 0 and place.clean(), (
        "and the line does it"
    )


@pytest.mark.system
def test_keep_leaves_it_and_says_so(place):
    said = place.run(*TPU, "--keep", *command("echo once"))
    assert (
        "t is kept, as --keep asks, and costs money until you delete it: gcloud compute tpus tpu-vm"
        " delete t --zone=z --project=p --quiet" in said
    )
    assert place.cloud.nodes() == ["t"] and "tpu-vm delete" not in place.cloud.verbs()
    said = place.run(*TPU, "--keep", "--reuse", *command("echo twice"))
    assert (
        "\ntwice\n" in said
        and "\nonce\n" not in said
        and place.cloud.verbs().count("tpu-vm create") == 1
    )


@pytest.mark.system
def test_a_launch_that_was_killed_is_taken_up_by_reuse(place):
    process = place.start(
        *TPU, *command(SAVES.replace("echo saved", "echo it had saved > $HOME/word"))
    )
    log = place.home / "launches/t/logs/t/attempt-1/worker-0.log"
    place.until(lambda: log.exists() and "at work" in log.read_text(), process)
    process.kill()
    process.communicate()
    assert place.cloud.nodes() == ["t"], "nobody can delete it then"
    assert "--reuse uses it" in place.run(*TPU, *command("true"), code=2)
    said = place.run(*TPU, "--reuse", *command("cat $HOME/word"))
    assert "\nit had saved\n" in said and place.clean(), (
        "what the killed launch had begun was told to save first"
    )


@pytest.mark.system
def test_a_lost_connection_neither_ends_nor_repeats_the_command(place):
    script = "echo begun >> times; cat times; sleep 1.5; echo the end"
    process = place.start(*TPU, *command(script))
    log = place.home / "launches/t/logs/t/attempt-1/worker-0.log"
    place.until(lambda: log.exists() and "begun" in log.read_text(), process)
    for pid in place.cloud.processes("t"):  # the processes that only look on
        if (
            b"tail" in open(f"/proc/{pid}/cmdline", "rb").read()
            or b"run.sh" in open(f"/proc/{pid}/cmdline", "rb").read()
        ):
            os.kill(pid, signal.SIGKILL)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 0, said
    assert "worker 0: the connection was lost; the command goes on there; connecting again" in said
    assert log.read_text() == "begun\nthe end\n" and said.count("begun\n") == 1 and place.clean()


@pytest.mark.system
def test_preempted_after_it_has_saved_it_is_made_anew_too(place):
    marks = place.folder / "marks"
    script = f"echo x >> {marks}; if [[ $(wc -l < {marks}) == 1 ]]; then {SAVES}; fi; echo done now"
    process = place.start(*(word.replace("=0.1", "=1") for word in TPU), "--spot", *command(script))
    log = place.home / "launches/t/logs/t/attempt-1/worker-0.log"
    place.until(lambda: log.exists() and "at work" in log.read_text(), process)
    os.kill(
        int((place.cloud.home("t", 0) / "jaxreg-launch/attempts/1/pid").read_text()), signal.SIGTERM
    )
    place.until(lambda: "saved" in log.read_text(), process)
    place.cloud.preempt("t")
    said = process.communicate(timeout=200)[0]
    assert "t was preempted" in said and "attempt 2 of 10" in said and "done now" in said, said
    assert place.cloud.verbs().count("tpu-vm create") == 2 and place.clean()


@pytest.mark.system
@pytest.mark.parametrize(
    ("flags", "group"), [(("--spot",), "tpu-vm"), (("--spot", "--queued"), "queued-resources")]
)
def test_preempted_it_is_made_anew_and_without_a_bucket_begins_again(place, flags, group):
    marks = place.folder / "marks"
    script = f"echo x >> {marks}; [[ $(wc -l < {marks}) == 2 ]] || sleep 60; echo done now"
    process = place.start(*TPU, *flags, *command(script), "--workdir=out")
    place.until(marks.exists, process)
    place.cloud.preempt("t")
    said = process.communicate(timeout=200)[0]
    assert (
        "a preempted VM takes its disk along" in said
        and "done now" in said
        and "t was preempted (state PREEMPTED)" in said
    ), said
    assert place.cloud.verbs().count(f"{group} create") == 2 and place.clean()


@pytest.mark.system
def test_queued_it_waits_and_tells_the_state(place):
    place.cloud.plan(waiting=2)
    said = place.run(*TPU, "--queued", "--valid_until=6h", *command("echo at last"))
    states = [line.split()[2] for line in said.splitlines() if line.startswith("t: state:")]
    assert (
        states == ["WAITING_FOR_RESOURCES", "PROVISIONING", "READY"]
        and "at last" in said
        and place.clean()
    )
    assert place.cloud.verbs() == [
        "queued-resources create",
        "tpu-vm scp",
        "tpu-vm ssh",
        "tpu-vm ssh",
        "queued-resources delete",
    ]


@pytest.mark.system
def test_a_queued_request_that_expires_is_deleted(place):
    place.cloud.plan(waiting=-1)
    said = place.run(*TPU, "--queued", "--valid_until=6h", *command("true"), code=75)
    assert "the request of t was not served within --valid_until=6h" in said and place.clean()


@pytest.mark.system
def test_ctrl_c_while_it_waits_in_line_deletes_the_request(place):
    place.cloud.plan(waiting=10**6)
    process = place.start(*TPU, "--queued", *command("true"))
    place.until(lambda: list(place.cloud.folder.glob("requests/*")), process)
    place.interrupt(process)
    said = process.communicate(timeout=200)[0]
    assert (
        process.returncode == 75
        and "t is deleted; nothing of it is left running" in said
        and place.clean()
    )


@pytest.mark.system
def test_three_times_ctrl_c_leaves_the_deletion_to_the_person(place):
    place.cloud.plan(creating=20)
    process = place.start(*TPU, *command("true"))
    place.until(place.cloud.nodes, process)
    place.cloud.plan(delete=99)
    for _ in range(3):
        place.interrupt(process)
        time.sleep(0.5)
    said = process.communicate(timeout=200)[0]
    assert (
        process.returncode == 1
        and "COULD NOT BE DELETED" in said
        and "run this: gcloud compute tpus tpu-vm delete t" in said
    )
    assert (
        "stopping: the command may save first" in said
        and "leaving the deletion to you" in said
        and "Traceback" not in said
    )


@pytest.mark.system
def test_copying_is_tried_again(place):
    place.cloud.plan(upload=2)
    assert "fine" in place.run(*TPU, *command("echo fine")) and place.clean()
    place.cloud.plan(upload=99)
    said = place.run(*TPU, *command("echo fine"), code=1)
    assert (
        "copying files on t failed: ERROR: (gcloud.compute.tpus) ssh: connect to host" in said
        and place.clean()
    )


@pytest.mark.system
def test_several_commands_get_a_slice_each(place):
    place.cloud.plan(creating=0.1)
    said = place.run(*TPU, *command("echo one; echo; echo more"), *command("echo two"))
    assert (
        "t-0 | one\n" in said
        and "t-0 | more\n" in said
        and "t-1 | two\n" in said
        and "t-0 is deleted" in said
        and "t-1 is deleted" in said
    )
    assert place.clean() and place.cloud.verbs().count("tpu-vm create") == 2

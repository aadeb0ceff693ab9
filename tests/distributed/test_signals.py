"""The first signal asks, the second stops."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from jaxreg.distributed import signals as interrupt

LOOP = """
import os, sys, time
from jaxreg.distributed.signals import Interrupts
with Interrupts(notify=lambda line: print(line, flush=True)) as interrupts:
    os.write(1, b"ready\\n")  # a print that is not over yet would refuse the notice's
    for _ in range(3000):
        time.sleep(.01)
        if interrupts.requested and sys.argv[1] == "polite":
            sys.exit(75)
"""


def test_first_signal_sets_the_flag_and_tells_once():
    told = []
    old = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupt.Interrupts(notify=told.append) as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.requested and interrupts.signal_name == "SIGTERM"
    assert told == [interrupt.NOTICE] and "\n" not in told[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == old


def test_second_ctrl_c_stops_at_once_and_handlers_are_back():
    old = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        with interrupt.Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupts.requested
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal did not stop")
    assert signal.getsignal(signal.SIGINT) is old


def test_a_notice_that_fails_costs_nothing():
    def fails(line):
        raise RuntimeError("reentrant call")

    with interrupt.Interrupts(notify=fails) as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.requested


def test_ignored_signals_stay_ignored():
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupts.requested
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, old)


def test_other_threads_change_no_handler():
    seen = []

    def work():
        with interrupt.Interrupts() as interrupts:
            seen.append((interrupts.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGINT))]


@pytest.mark.parametrize(
    "mode, signals, code",
    [("polite", [signal.SIGTERM], 75), ("deaf", [signal.SIGTERM] * 2, -signal.SIGTERM)],
)
def test_real_process(mode, signals, code):
    with subprocess.Popen(
        [sys.executable, "-c", LOOP, mode], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signals[0])
        assert process.stdout.readline() == interrupt.NOTICE + "\n"
        for signum in signals[1:]:
            process.send_signal(signum)
        assert process.wait(timeout=10) == code

"""Contenders in processes of their own that take turns: thread pools of two libraries disturb each
other, a busy moment hits all.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def serve(about: dict, run: Callable[[str], float]) -> None:
    """A contender's process: says what it is, then answers every line that comes in with
    `run(line)`.
    """
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(run(line.strip()), flush=True)


def take(
    commands: dict[str, list[str]],
    cases: Sequence[tuple[str, str]],
    rounds: int,
    said: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, dict], dict[tuple[str, str], list[float]]]:
    """What each process says about itself, and the answers to every case (process, line), one a
    round.

    Args:
      commands: name -> the command of its process, which calls `serve`.
      cases: asked one after the other in every round.
      said: hears which round begins.
    """
    workers = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in commands.items()
    }
    about = {name: json.loads(worker.stdout.readline()) for name, worker in workers.items()}
    answers: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for number in range(rounds):
        said(f"round {number + 1} of {rounds}")
        for name, line in cases:
            print(line, file=workers[name].stdin, flush=True)
            answers[name, line].append(float(workers[name].stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return about, answers


VECTOR_BITS = {"avx512f": 512, "avx2": 256, "avx": 256, "sse2": 128, "asimd": 128}
"""Flag of the processor -> bits of a vector register, the widest first."""


def without_avx512() -> None:
    """Limits XLA and PyTorch to AVX2 in the processes that are started from here on.

    It stands for a processor without AVX-512: XLA's own code and PyTorch's kernels keep to vectors
    of 256 bits. The clock and the caches stay those of the machine.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_max_isa=AVX2".strip()
    os.environ |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    os.environ["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"


def processor(cpuinfo: str | None = None) -> str:
    """The machine's processor, the width of its vectors, and the cores that this process may use.

    Args:
      cpuinfo: the text of /proc/cpuinfo; None reads it.
    """
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    fields = [line.partition(":") for line in text.splitlines()]
    found = {name.strip(): value.strip() for name, _, value in reversed(fields)}
    flags = set(found.get("flags", found.get("Features", "")).split())
    bits = next((bits for flag, bits in VECTOR_BITS.items() if flag in flags), 64)
    name = found.get("model name", platform.machine())
    limited = bits > 256 and "xla_cpu_max_isa=AVX2" in os.environ.get("XLA_FLAGS", "")
    vectors = "256 bits (AVX-512 switched off)" if limited else f"{bits} bits"
    return f"{name}, vectors of {vectors}, {len(os.sched_getaffinity(0))} cores"

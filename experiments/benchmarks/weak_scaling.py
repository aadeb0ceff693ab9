"""Members trained per second on one and on two devices, when each device has as many members as
before: weak scaling.

Command:  python experiments/benchmarks/weak_scaling.py [--rounds=9] [--steps=400] [--members=8]
            [--axis=map] [--output=FILE.json]

A device is a CPU core here. Each contender is a process of its own that may use as many cores as it
has devices, and they take turns:

- one: one device, on core 0.
- two: two devices, on both cores, one program (what `jaxreg compare` does).
- other: one device, on the other core; the two cores need not be equally fast.
- apart: two processes with one device each at the same moment: what the machine allows, without any
  of our code between them.

Before JAX is imported the process binds itself to its cores (sched_setaffinity), which every later
thread inherits: XLA sizes its pool by them, and the kernel lets no thread of it run elsewhere.
Afterwards the cores of every thread are read back from /proc, and the processor seconds per second
of waiting are measured: with one core they cannot be above 1.

What is timed is a whole wave of the main recipe (configs/cat_sat.py, attention dropout .3): tables
to the devices, initialisation, batches drawn on the host, training, evaluations, last scores,
gathering. "host" is what remains when the devices' programs are taken out of it; it is what does
not get faster with more devices of one host.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks import turns  # noqa: E402, a script has no repository on its path

AIM = 1.8
PROGRAMS = ("init", "advance", "score", "keep", "evaluated")
DEVICES_BEYOND = (4, 8, 64, 256)
BANDWIDTH, LATENCY = 100e9, 5e-6
"""Of an all-reduce between accelerators of one slice: bytes per second, seconds. Assumed, not
measured.
"""


class Wave:
    """A wave of the main recipe on some devices, to be trained again and again.

    Attributes:
      advance: the compiled program that trains.
    """

    def __init__(self, devices: int, members: int, steps: int, axis: str):
        import jax

        from jaxreg.study.design.config import load_config
        from jaxreg.study.engine import program as build
        from jaxreg.study.engine.dataset_loader import Library
        from jaxreg.study.engine.members import plain
        from jaxreg.study.engine.trainer import passes_of
        from jaxreg.train.loop import compile_programs, stack_members

        config = plain(load_config(ROOT / "configs" / "cat_sat.py"))
        config["train"] |= {"num_steps": steps, "members_per_device": members, "member_axis": axis}
        config["model"]["attention_dropout_rate"] = 0.3
        library = Library(Path(tempfile.mkdtemp(prefix="jaxreg-weak-scaling-")))
        example = library[library.request(config["data"], 0)]
        library.close()
        structure = build.structure_of(config)
        passes = passes_of(structure, example)
        self.programs = build.programs_of(
            structure, build.Vocabulary.of(example), jax.devices()[:devices]
        )
        self.plan, slots = build.plan_of(structure, example, passes), self.programs.layout.slots
        self.jobs = [
            build.job_of(config, f"{seed:024x}", seed, seed % members) for seed in range(slots)
        ]
        member = self.programs.layout.spread(stack_members(self.jobs))
        self.parameters = (
            sum(x.size for x in jax.tree.leaves(jax.eval_shape(self.programs.init, member).params))
            // slots
        )
        tables = build.tables_of([example] * members, passes, devices, build.needs_of(structure))
        self.tables = self.programs.layout.spread_tables(tables)
        compile_programs(
            self.programs, self.jobs[0], jax.eval_shape(lambda x: x, self.tables), self.plan
        )
        self.advance = self.programs.advance
        self.device_seconds = 0.0
        for name in PROGRAMS:
            setattr(self.programs, name, self._timed(getattr(self.programs, name)))

    def _timed(self, program):
        """The program, waited for: the loop waits before its next step anyway."""
        import jax

        def run(*arguments):
            began = time.perf_counter()
            out = jax.block_until_ready(program(*arguments))
            self.device_seconds += time.perf_counter() - began
            return out

        return run

    def train(self) -> dict[str, float]:
        """Seconds for the whole wave, those of the devices' programs, and processor seconds."""
        from jaxreg.train import loop

        self.device_seconds, cpu, began = 0.0, time.process_time(), time.perf_counter()
        loop.run_wave(loop.Wave(self.programs, self.jobs, self.tables, self.plan))
        seconds = time.perf_counter() - began
        return {
            "wave": seconds,
            "host": seconds - self.device_seconds,
            "cpu": time.process_time() - cpu,
        }


def bind(cores: list[int]) -> None:
    """Lets this process and all threads it will have run on these cores only."""
    os.sched_setaffinity(0, cores)


def cores_of_threads() -> list[str]:
    """The different sets of cores that the threads of this process may use, as the kernel writes
    them.
    """
    found = set()
    for status in Path("/proc/self/task").glob("*/status"):
        found |= {
            line.split(":")[1].strip()
            for line in status.read_text().splitlines()
            if line.startswith("Cpus_allowed_list")
        }
    return sorted(found)


def serve(cores: list[int], given: argparse.Namespace) -> None:
    """A contender's process: one device a core; trains a wave for the line "wave", then says what
    else was measured of it.
    """
    bind(cores)
    import jax

    jax.config.update("jax_num_cpu_devices", len(cores))
    wave = Wave(len(cores), given.members, given.steps, given.axis)
    last = wave.train()

    def run(line: str) -> float:
        nonlocal last
        last = wave.train() if line == "wave" else last
        return last[line]

    about = {
        "devices": len(cores),
        "members": len(wave.jobs),
        "parameters": wave.parameters,
        "threads_on_cores": cores_of_threads(),
    }
    turns.serve(about, run)


def serve_apart(cores: list[int], given: argparse.Namespace) -> None:
    """A process for each core, which all begin at the same moment."""
    commands = [command([core], given) for core in cores]
    workers = [
        subprocess.Popen(each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for each in commands
    ]
    about = [json.loads(worker.stdout.readline()) for worker in workers]

    def run(line: str) -> float:
        began = time.perf_counter()
        for worker in workers:
            print(line, file=worker.stdin, flush=True)
        answers = [float(worker.stdout.readline()) for worker in workers]
        return time.perf_counter() - began if line == "wave" else sum(answers)

    members, threads = (
        sum(each["members"] for each in about),
        [each["threads_on_cores"] for each in about],
    )
    turns.serve({"devices": len(cores), "members": members, "threads_on_cores": threads}, run)
    for worker in workers:
        worker.stdin.close()
        worker.wait()


def command(cores: list[int], given: argparse.Namespace, apart: bool = False) -> list[str]:
    """What starts a contender's process."""
    sizes = [f"--members={given.members}", f"--steps={given.steps}", f"--axis={given.axis}"]
    return [
        sys.executable,
        __file__,
        f"--serve={','.join(map(str, cores))}",
        *sizes,
        *(["--apart"] if apart else []),
    ]


def measure(given: argparse.Namespace) -> dict:
    """Every contender's rounds and what follows from them."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    commands = {
        "one": command([first], given),
        "two": command([first, second], given),
        "other": command([second], given),
        "apart": command([first, second], given, apart=True),
    }
    cases = [(name, line) for name in commands for line in ("wave", "host", "cpu")]
    about, answers = turns.take(
        commands, cases, given.rounds, lambda line: print(line, file=sys.stderr, flush=True)
    )
    rounds = {
        name: {line: answers[name, line] for line in ("wave", "host", "cpu")} for name in commands
    }
    result = {
        "machine": turns.processor(),
        "rounds": given.rounds,
        "steps": given.steps,
        "members_per_device": given.members,
        "axis": given.axis,
        "contenders": {name: about[name] | {"seconds": rounds[name]} for name in commands},
    }
    return result | {"found": figures(result)}


def figures(result: dict) -> dict:
    """Members per second (medians over the rounds), ratios, and the share of a processor that each
    contender had.
    """
    found = {}
    for name, entry in result["contenders"].items():
        seconds = entry["seconds"]
        found[name] = {
            "members_per_second": entry["members"] / statistics.median(seconds["wave"]),
            "host_share": statistics.median(
                host / wave for host, wave in zip(seconds["host"], seconds["wave"], strict=True)
            ),
            "processors": statistics.median(
                cpu / wave for cpu, wave in zip(seconds["cpu"], seconds["wave"], strict=True)
            ),
        }
    alone = [found[name]["members_per_second"] for name in ("one", "other")]
    two = found["two"]["members_per_second"]
    return {
        "by_contender": found,
        "ratio": two / found["one"]["members_per_second"],
        "ratio_to_mean_core": two / statistics.mean(alone),
        "ratio_of_separate_processes": (
            found["apart"]["members_per_second"] / statistics.mean(alone)
        ),
        "beyond": beyond(result),
    }


def beyond(result: dict) -> dict:
    """The model for more devices of one host: the devices' time stays, the host's grows with the
    members.

    members/s (D) = D M / (d + D M h): M members a device, d the devices' seconds for a wave, h the
    host's seconds per member. The member axis sends nothing between devices. Layout "data" does:
    each step all-reduces the gradient, 4 bytes a parameter, of which a ring sends 2 (D - 1) / D.
    """
    one, two = result["contenders"]["one"], result["contenders"]["two"]
    members = one["members"]
    host = statistics.median(two["seconds"]["host"]) / two["members"]
    device = statistics.median(
        wave - own for wave, own in zip(two["seconds"]["wave"], two["seconds"]["host"], strict=True)
    )
    rate = lambda devices: devices * members / (device + devices * members * host)  # noqa: E731
    gradient = 4 * one["parameters"]
    return {
        "device_seconds": device,
        "host_seconds_per_member": host,
        "speed_up": {str(devices): rate(devices) / rate(1) for devices in (2, *DEVICES_BEYOND)},
        "gradient_bytes": gradient,
        "all_reduce_seconds": {
            str(devices): LATENCY + 2 * (devices - 1) / devices * gradient / BANDWIDTH
            for devices in (2, *DEVICES_BEYOND)
        },
    }


def markdown(result: dict) -> str:
    """The table for the README."""
    found, lines = result["found"]["by_contender"], []
    said = {
        "one": "one device, on core 0",
        "other": "one device, on core 1",
        "two": "two devices, one program",
        "apart": "two processes at once, one device each",
    }
    for name, what in said.items():
        entry = found[name]
        ratio = entry["members_per_second"] / found["one"]["members_per_second"]
        lines.append(
            f"| {what} | {entry['members_per_second']:.2f} | {ratio:.2f} |"
            f" {entry['processors']:.2f} | {100 * entry['host_share']:.1f}% |"
        )
    return "\n".join(
        [
            "| contender | members/s | against the first | processors used | host |",
            "|---|---|---|---|---|",
            *lines,
        ]
    )


def main() -> None:
    """Measures, prints the table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--members", type=int, default=8, help="of each device")
    parser.add_argument("--axis", choices=("map", "vmap"), default="map")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        (serve_apart if given.apart else serve)(
            [int(core) for core in given.serve.split(",")], given
        )
        return
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("needs two cores")
    result = measure(given)
    found = result["found"]
    print(
        f"{result['machine']}; medians of {given.rounds} rounds of {given.steps} steps,"
        f" {given.members} members a device, {given.axis}"
    )
    print(markdown(result))
    print(
        f"1 to 2 devices: x{found['ratio']:.2f} (aim {AIM}); against the mean of both cores"
        f" x{found['ratio_to_mean_core']:.2f}; two separate processes"
        f" x{found['ratio_of_separate_processes']:.2f}"
    )
    print(
        "by the model: "
        + ", ".join(
            f"{devices} devices x{value:.1f}"
            for devices, value in found["beyond"]["speed_up"].items()
        )
    )
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

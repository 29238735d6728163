# SPDX-License-Identifier: Apache-2.0
"""What taking turns on a core costs Python processes, with code at different addresses and at the same.

    python benchmarks/address_layout.py [--processes 8] [--turns 3000] [--rounds 5]

Each process does the same piece of this product's work (an answer parsed, a prompt filled, votes packed,
cells decided), then wakes the next. All share one core, so that nothing but the turn lies between two pieces.
The kernel gives each process its own random addresses (ASLR), or the same to all (``setarch -R``).
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from quorum.decision.cell import Parameters, decide_one
from quorum.serving.packing import pack_votes, unpack_votes
from quorum.tasks.catalogue import Attribute, Catalogue
from quorum.tasks.parse import parse_answer
from quorum.tasks.prompt import fill_prompt, instructions_for

NAMES = tuple(f"attribute {number}" for number in range(5))
CATALOGUE = Catalogue.of([Attribute(name) for name in NAMES])
INSTRUCTIONS = instructions_for(CATALOGUE, "instruct", NAMES)
ANSWER = json.dumps({name: f"value of {name}" for name in NAMES})
PARAMETERS = Parameters((1.0, 2.0, 3.0, 4.0, 5.0))
WARM_UP = 2_000
NO_ASLR = ["setarch", "-R"]


def work() -> None:
    """Some 20 microseconds when nothing else runs in between."""
    fill_prompt("instruct", INSTRUCTIONS, "a shoe that is neither new nor blue", "shoes")
    votes = unpack_votes(pack_votes(parse_answer(CATALOGUE, NAMES, ANSWER)))
    for _ in NAMES:
        decide_one(PARAMETERS, votes)


def take_turns(read: int, write: int, turns: int) -> float:
    """Microseconds of CPU that a piece of work took, median over turns."""
    took = []
    for _ in range(turns):
        os.read(read, 1)
        begun = time.thread_time_ns()
        work()
        took.append((time.thread_time_ns() - begun) / 1e3)
        os.write(write, b"x")
    return statistics.median(took)


def child(read: int, write: int, turns: int) -> None:
    """Warm up, say so, take turns, say what they took."""
    for _ in range(WARM_UP):
        work()
    print("ready", flush=True)
    print(take_turns(read, write, turns), flush=True)


def measure(processes: int, turns: int, aslr: bool) -> float:
    """Microseconds per piece of work, mean over processes."""
    pipes = [os.pipe() for _ in range(processes)]
    running: list[subprocess.Popen[str]] = []
    try:
        for index in range(processes):
            ends = pipes[index][0], pipes[(index + 1) % processes][1]
            command = [sys.executable, __file__, "--child", *map(str, (*ends, turns))]
            layout = [] if aslr else NO_ASLR
            running.append(
                subprocess.Popen([*layout, *command], pass_fds=ends, stdout=subprocess.PIPE, text=True)
            )
        for process in running:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                sys.exit("a process could not begin; its own words are above")
        os.write(pipes[0][1], b"x")
        return statistics.fmean(float(process.communicate(timeout=120)[0]) for process in running)
    finally:
        for process in running:
            process.kill()
        for ends in pipes:
            os.close(ends[0])
            os.close(ends[1])


def can_choose() -> bool:
    """Whether a process may do without random addresses here."""
    try:
        return subprocess.run([*NO_ASLR, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def main() -> None:
    """Both ways in turn, then their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=8, help="that take turns; 1 shows the work alone")
    parser.add_argument("--turns", type=int, default=3_000, help="of each process in a round")
    parser.add_argument("--rounds", type=int, default=5, help="of both ways")
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    if not can_choose():
        sys.exit(
            "setarch -R does not work here: install util-linux, or leave the container, whose seccomp "
            "profile refuses personality()"
        )
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(options.rounds):
        for aslr in (True, False) if number % 2 == 0 else (False, True):
            took[aslr].append(measure(options.processes, options.turns, aslr))
    own, same = statistics.median(took[True]), statistics.median(took[False])
    ratios = sorted(a / b for a, b in zip(took[True], took[False], strict=True))
    print(
        f"{options.processes} processes in turn on one core: {own:.1f} us at addresses of their own, "
        f"{same:.1f} us at the same; "
        f"{statistics.median(ratios):.2f} times [{ratios[0]:.2f}, {ratios[-1]:.2f}] as much"
    )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Measure CPU of Python processes that take turns on a core, with code at equal and at random addresses.

Each process does the same piece of this product's work (an answer parsed, a prompt filled, votes packed,
cells decided), then wakes the next. All share one core, so that only the turn lies between two pieces.
The kernel gives each process its own random addresses (ASLR), or the same to all (``setarch -R``).
``python -m quorum_bench.studies.address_layout READ WRITE TURNS`` is one of the processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from quorum.decision.cell import Parameters, decide_one
from quorum.serving.packing import pack_votes, unpack_votes
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import parse_answer
from quorum.tasks.prompt import fill_prompt, instructions_for
from quorum_contract.errors import QuorumError

NAMES = tuple(f"attribute {number}" for number in range(5))
CATALOGUE = Catalogue.of([Attribute(name) for name in NAMES])
INSTRUCTIONS = instructions_for(CATALOGUE, "instruct", NAMES)
ANSWER = json.dumps({name: f"value of {name}" for name in NAMES})
PARAMETERS = Parameters((1.0, 2.0, 3.0, 4.0, 5.0))
WARM_UP = 2_000
NO_ASLR = ["setarch", "-R"]


class AddressLayoutError(QuorumError, RuntimeError):
    """The layout cannot be measured here; the message says why."""

    code = "ADDRESS_LAYOUT_REFUSED"


def work() -> None:
    """Do one piece of work: some 20 microseconds when nothing else runs in between."""
    fill_prompt("instruct", INSTRUCTIONS, "a shoe that is neither new nor blue", "shoes")
    votes = unpack_votes(pack_votes(parse_answer(CATALOGUE, NAMES, ANSWER)))
    ballots = [(value, status) for value, status, _ in votes]
    for _ in NAMES:
        decide_one(PARAMETERS, ballots)


def take_turns(read: int, write: int, turns: int) -> float:
    """Return the CPU microseconds of a piece of work, median over turns."""
    took = []
    for _ in range(turns):
        os.read(read, 1)
        begun = time.thread_time_ns()
        work()
        took.append((time.thread_time_ns() - begun) / 1e3)
        os.write(write, b"x")
    return statistics.median(took)


def _child(read: int, write: int, turns: int) -> None:
    """Warm up, print ``ready``, take turns, print their median."""
    for _ in range(WARM_UP):
        work()
    print("ready", flush=True)  # noqa: T201  (the protocol with the parent)
    print(take_turns(read, write, turns), flush=True)  # noqa: T201


def measure(processes: int, turns: int, aslr: bool) -> float:
    """Return microseconds per piece of work, mean over processes."""
    pipes = [os.pipe() for _ in range(processes)]
    running: list[subprocess.Popen[str]] = []
    try:
        for index in range(processes):
            ends = pipes[index][0], pipes[(index + 1) % processes][1]
            command = [sys.executable, "-m", __name__, *map(str, (*ends, turns))]
            layout = [] if aslr else NO_ASLR
            running.append(
                subprocess.Popen([*layout, *command], pass_fds=ends, stdout=subprocess.PIPE, text=True)
            )
        for process in running:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise AddressLayoutError("a process could not begin; its own messages are above")
        os.write(pipes[0][1], b"x")
        return statistics.fmean(float(process.communicate(timeout=120)[0]) for process in running)
    finally:
        for process in running:
            process.kill()
        for ends in pipes:
            os.close(ends[0])
            os.close(ends[1])


def can_choose() -> bool:
    """Whether a process may switch off random addresses here."""
    try:
        return subprocess.run([*NO_ASLR, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def compare(processes: int, turns: int, rounds: int) -> str:
    """Measure both layouts in turn and return their medians in a line.

    Args:
        processes: Processes that take turns; 1 shows the work alone.
        turns: Turns of each process in a round.
        rounds: Rounds of both layouts.

    Raises:
        AddressLayoutError: The layout cannot be chosen here, or a process failed.
    """
    if not can_choose():
        raise AddressLayoutError(
            "setarch -R does not work here: install util-linux, or leave the container, whose seccomp "
            "profile refuses personality()"
        )
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    took: dict[bool, list[float]] = {True: [], False: []}
    try:
        for number in range(rounds):
            for aslr in (True, False) if number % 2 == 0 else (False, True):
                took[aslr].append(measure(processes, turns, aslr))
    finally:
        os.sched_setaffinity(0, cores)
    own, same = statistics.median(took[True]), statistics.median(took[False])
    ratios = sorted(a / b for a, b in zip(took[True], took[False], strict=True))
    return (
        f"{processes} processes in turn on one core: {own:.1f} us at addresses of their own, "
        f"{same:.1f} us at the same; "
        f"{statistics.median(ratios):.2f} times [{ratios[0]:.2f}, {ratios[-1]:.2f}] as much"
    )


if __name__ == "__main__":
    _child(*map(int, sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""One case: a rate, a fault, and what callers noticed; and the list of all cases."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorum_bench.chaos.faults import RUNTIME_FAULTS, Fault, begin
from quorum_bench.chaos.traffic import CALL_S, Asked, Outcome, traffic
from quorum_bench.chaos.world import MEMBERS, World
from quorum_client import Extraction, Status
from quorum_contract import GATE, VOTE

RATES = (0.5, 2.0, 40.0)
_WARM_S = 0.5
_AFTER_S = 1.0
_PATIENCE_S = 30.0
_MOST_BACK_S = 10.0
_HOLD_S = {"stop": 8.0, "memory": 4.0, "block": 3.0, "hang": 3.0}
_HOLD_OTHER_S = 2.0
_SLOTS_S = 5.0
BROKEN_MEMBER = MEMBERS[1]


@dataclass(frozen=True, slots=True)
class Row:
    """Outcome of one case.

    Attributes:
        part: What was broken.
        fault: How.
        rate_per_s: Of the requests.
        asked: Requests from just before the fault until all members had answered again.
        answered: Within the deadline.
        refused: Refused in time, no member asked.
        broken: Calls that failed, or found no server.
        late: Calls without an outcome within the deadline.
        wrong: Answers that differ from the offline vote of the members that answered.
        empty: Answers without any value, as no member answered.
        missed: Answers in which a broken member abstained on something.
        spread: Answers in which a member that was not broken abstained on something.
        gap_s: Seconds from the fault until requests were answered again, for good; 0 if all were. Known to a
            pause between two requests.
        whole_s: Seconds from the end of the fault until every member voted again; None: not within half a
            minute.
        slots: Tickets still held when all is over; -1: without a server, none could be counted.
        left: Processes and files that no server needs.
        incidents: What the supervisor found meanwhile.
        spares_steps: Whether no process of Triton was touched.
        spares_graph: Whether only members were touched.
        must_show: Whether broken members had to abstain.
        errors: Messages of failed calls, and what was wrong in answers; each once.
    """

    part: str
    fault: str
    rate_per_s: float
    asked: int
    answered: int
    refused: int
    broken: int
    late: int
    wrong: int
    empty: int
    missed: int
    spread: int
    gap_s: float
    whole_s: float | None
    slots: int
    left: tuple[str, ...]
    incidents: tuple[str, ...]
    spares_steps: bool
    spares_graph: bool
    must_show: bool
    errors: tuple[str, ...] = ()


def run_case(world: World, fault: Fault, rate_per_s: float) -> Row:
    """Break something for some seconds under load, and wait until all members answer again."""
    products, known = world.workload.products, world.incidents()
    with traffic(world.url, products, rate_per_s) as load:
        time.sleep(max(_WARM_S, 1 / rate_per_s))
        begun_s = time.monotonic()
        lift = begin(fault, world.spec, world.faults)
        try:
            if fault.lasts:
                time.sleep(_HOLD_S.get(fault.kind, _HOLD_OTHER_S))
        finally:
            lift()
        lifted_s = time.monotonic() if fault.lasts else begun_s
        is_whole = world.wait_whole(_PATIENCE_S)
        whole_s = time.monotonic() - lifted_s
        time.sleep(max(_AFTER_S, 2 / rate_per_s))
    incidents = acts_since(known, world.incidents())
    return _row(world, fault, rate_per_s, begun_s, whole_s if is_whole else None, load.asked, incidents)


def acts_since(
    known: Sequence[Mapping[str, Any]], incidents: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The incidents after the known ones in which the supervisor acted; a step replaces its worker itself."""
    earlier = {one["at"] for one in known}
    return [one for one in incidents if one["at"] not in earlier and one.get("kind") != "worker"]


def problems(row: Row, most_back_s: float = _MOST_BACK_S) -> list[str]:
    """What a row must not show; answers and members must be back after ``most_back_s``."""
    found = []
    if row.wrong:
        found.append(f"{row.wrong} wrong answers")
    if row.gap_s > most_back_s:
        found.append(f"no answers for {row.gap_s:.1f} s")
    if row.whole_s is None or row.whole_s > most_back_s:
        found.append(f"not every member was back within {most_back_s:g} s")
    if row.must_show and not row.missed:
        found.append("the broken members answered as ever: was anything broken?")
    if row.spares_graph and row.spread:
        found.append(f"in {row.spread} answers members abstained that were not broken")
    if row.spares_steps and row.incidents:
        found.append(f"the supervisor had to act: {row.incidents[0]}")
    if row.slots:
        found.append(f"{row.slots} slots held")
    if row.left:
        found.append(f"left: {', '.join(row.left[:3])}")
    if row.spares_steps and (row.broken or row.late):
        found.append(f"{row.broken + row.late} calls lost, though the server lived")
    return found


def silent_members(answer: Extraction) -> frozenset[str]:
    """Members that abstained on something that was asked."""
    return frozenset(
        vote.member for one in answer.answers for vote in one.votes if vote.status is not Status.ANSWERED
    )


def _row(
    world: World,
    fault: Fault,
    rate: float,
    begun_s: float,
    whole_s: float | None,
    asked: Sequence[Asked],
    incidents: Sequence[Mapping[str, Any]],
) -> Row:
    kinds = [one.outcome for one in asked]
    answers = [one.answer for one in asked if one.answer is not None]
    silent = [silent_members(answer) for answer in answers]
    mistakes = [world.mistakes(one.product, one.answer) for one in asked if one.answer is not None]
    errors = sorted({one.error.splitlines()[0][:160] for one in asked if one.error})
    return Row(
        part=fault.name,
        fault=fault.kind,
        rate_per_s=rate,
        asked=len(asked),
        answered=kinds.count(Outcome.answered),
        refused=kinds.count(Outcome.refused),
        broken=kinds.count(Outcome.broken),
        late=kinds.count(Outcome.late),
        wrong=sum(map(bool, mistakes)),
        empty=sum(all(one.value is None for one in answer.answers) for answer in answers),
        missed=sum(bool(names & fault.members) for names in silent),
        spread=sum(bool(names - fault.members) for names in silent),
        gap_s=round(gap_s(begun_s, asked), 2),
        whole_s=None if whole_s is None else round(whole_s, 2),
        slots=_held(world),
        left=tuple(world.left()),
        incidents=tuple(f"{one['process']} {one['found']}" for one in incidents),
        spares_steps=fault.spares_steps,
        spares_graph=fault.spares_graph,
        must_show=fault.must_show,
        errors=(*errors, *dict.fromkeys(text for one in mistakes for text in one[:1])),
    )


def gap_s(begun_s: float, asked: Sequence[Asked]) -> float:
    """Seconds from the fault to the first answer after the last request that got none."""
    ordered = sorted(asked, key=lambda one: one.sent_s)
    failed = [at for at, one in enumerate(ordered) if one.outcome is not Outcome.answered]
    if not failed:
        return 0.0
    later = ordered[failed[-1] + 1 :]
    end_s = later[0].sent_s + later[0].took_s if later else ordered[-1].sent_s + CALL_S
    return max(0.0, end_s - begun_s)


def _held(world: World) -> int:
    """Tickets held once every deadline has passed."""
    end = time.monotonic() + _SLOTS_S
    while (held := world.slots()) and time.monotonic() < end:
        time.sleep(0.1)
    return held


def member_faults() -> list[Fault]:
    """Faults of one member's runtime and of its worker."""
    runtime = [Fault(kind, (("runtime", BROKEN_MEMBER),)) for kind in RUNTIME_FAULTS]
    process = [Fault(kind, (("worker", BROKEN_MEMBER),)) for kind in ("kill", "stop", "slow")]
    return [*runtime, *process]


def step_faults() -> list[Fault]:
    """Faults of the processes of Triton: a member's step, gate, vote, the server."""
    steps = [
        Fault(kind, (("stub", model),))
        for model in (BROKEN_MEMBER, GATE, VOTE)
        for kind in ("kill", "stop", "slow", "starve")
    ]
    server = [Fault(kind, (("server", ""),)) for kind in ("kill", "stop")]
    return [*steps, *server]


def all_down() -> list[Fault]:
    """All members fail at once."""
    runtimes = tuple(("runtime", name) for name in MEMBERS)
    workers = tuple(("worker", name) for name in MEMBERS)
    stubs = tuple(("stub", name) for name in MEMBERS)
    return [
        Fault("raise", runtimes), Fault("hang", runtimes), Fault("kill", workers), Fault("kill", stubs),
    ]  # fmt: skip


SHORT: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...] = (
    ("raise", (("runtime", BROKEN_MEMBER),), 40.0),
    ("block", (("runtime", BROKEN_MEMBER),), 40.0),
    ("garbage", (("runtime", BROKEN_MEMBER),), 40.0),
    ("memory", (("runtime", BROKEN_MEMBER),), 40.0),
    ("kill", (("worker", BROKEN_MEMBER),), 40.0),
    ("stop", (("worker", BROKEN_MEMBER),), 40.0),
    ("hang", tuple(("runtime", name) for name in MEMBERS), 40.0),
    ("kill", (("stub", BROKEN_MEMBER),), 40.0),
    ("kill", (("stub", GATE),), 2.0),
    ("kill", (("stub", VOTE),), 40.0),
    ("kill", (("server", ""),), 40.0),
)
"""One case of each kind that differs: ``(kind, targets, rate)``."""


def short_cases() -> Iterator[tuple[Fault, float]]:
    """The cases of the short form."""
    for kind, targets, rate in SHORT:
        yield Fault(kind, targets), rate


def long_cases() -> Iterator[tuple[Fault, float]]:
    """Every fault at every rate."""
    for rate in RATES:
        for fault in [*member_faults(), *step_faults(), *all_down()]:
            yield fault, rate

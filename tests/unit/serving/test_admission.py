# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.serving.admission import CAPACITY, GRACE_NS, UNUSED_NS, Admission
from quorum.serving.packing import Admitted, pack_question

NOW, LATER = 10**12, 10**12 + 10**9
SEALS = itertools.count(1)
BODY = b"a shoe, shoes, color, size"


def claim(admission: Admission, limit: int, now_ns: int = NOW, deadline_ns: int = LATER) -> int | None:
    return admission.claim(limit, now_ns, deadline_ns, next(SEALS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tickets"


def test_no_more_than_the_limit_are_inside(path: Path) -> None:
    admission = Admission(path)
    tickets = [claim(admission, 3, NOW, LATER) for _ in range(3)]
    assert len(set(tickets)) == 3
    assert None not in tickets
    assert claim(admission, 3, NOW, LATER) is None
    assert admission.inside(NOW) == 3
    admission.release(tickets[1] or 0)
    assert admission.inside(NOW) == 2
    assert claim(admission, 3, NOW, LATER) not in (None, *tickets)
    assert claim(admission, 3, NOW, LATER) is None


def test_a_ticket_is_good_until_it_is_handed_back_or_runs_out(path: Path) -> None:
    admission = Admission(path)
    ticket = claim(admission, 1, NOW, LATER)
    assert ticket is not None
    assert ticket > 0
    assert admission.is_valid(ticket, LATER)
    assert admission.is_valid(ticket, LATER + GRACE_NS - 1)
    assert not admission.is_valid(ticket, LATER + GRACE_NS)
    admission.release(ticket)
    assert not admission.is_valid(ticket, NOW)
    admission.release(ticket)
    assert admission.inside(NOW) == 0


def test_a_slot_that_nobody_hands_back_falls_free(path: Path) -> None:
    admission = Admission(path)
    lost = claim(admission, 1, NOW, LATER)
    admission.use(lost or 0)
    end = LATER + GRACE_NS
    assert claim(admission, 1, end - 1, end) is None
    ticket = claim(admission, 1, end, end + 1)
    assert ticket is not None
    admission.release(lost or 0)
    assert admission.is_valid(ticket, end)
    assert not admission.is_valid(lost or 0, end)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**17).map(lambda slot: slot))
def test_forged_tickets_open_and_free_nothing(tmp_path_factory: pytest.TempPathFactory, forged: int) -> None:
    admission = Admission(tmp_path_factory.getbasetemp() / "forged")
    if not admission.inside(NOW):
        assert all(claim(admission, 8, NOW, LATER) for _ in range(8))
    assert not admission.is_valid(forged, NOW)
    admission.release(forged)
    assert admission.inside(NOW) == 8


def test_the_secret_part_of_a_ticket_counts(path: Path) -> None:
    admission = Admission(path)
    ticket = claim(admission, 8, NOW, LATER) or 0
    for bit in range(63):
        assert not admission.is_valid(ticket ^ (1 << bit), NOW)


def test_the_largest_limit_fits(path: Path) -> None:
    admission = Admission(path)
    assert len({claim(admission, CAPACITY, NOW, LATER) for _ in range(CAPACITY)} - {None}) == CAPACITY
    assert claim(admission, CAPACITY, NOW, LATER) is None


def test_slots_are_found_wherever_they_fall_free(path: Path) -> None:
    gate, vote = Admission(path), Admission(path)
    tickets = [claim(gate, 7) or 0 for _ in range(7)]
    for free in (3, 0, 6, 5):
        vote.release(tickets[free])
        found = claim(gate, 7)
        assert found is not None
        assert found & 0xFFFF == tickets[free] & 0xFFFF
        assert claim(gate, 7) is None


def test_a_smaller_limit_keeps_to_its_slots(path: Path) -> None:
    gate = Admission(path)
    for ticket in [claim(gate, 9) or 0 for _ in range(9)]:
        gate.release(ticket)
    assert {(claim(gate, 2) or 0) & 0xFFFF for _ in range(2)} == {0, 1}
    assert claim(gate, 2) is None


def test_two_processes_see_the_same_tickets(path: Path) -> None:
    gate = Admission(path)
    tickets = [claim(gate, 4, NOW, LATER) for _ in range(4)]
    code = (
        "import sys; from pathlib import Path; from quorum.serving.admission import Admission\n"
        "vote, now = Admission(Path(sys.argv[1])), int(sys.argv[2])\n"
        "tickets = list(map(int, sys.argv[3:]))\n"
        "assert vote.inside(now) == 4 and all(vote.is_valid(t, now) for t in tickets)\n"
        "for t in tickets[:3]: vote.release(t)"
    )
    subprocess.run([sys.executable, "-c", code, path, str(NOW), *map(str, tickets)], check=True, timeout=60)
    assert gate.inside(NOW) == 1
    assert [gate.is_valid(t or 0, NOW) for t in tickets] == [False, False, False, True]


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    Admission(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_any_mix_of_claims_and_releases_keeps_the_books(path: Path) -> None:
    draw, gate, vote = random.Random(5), Admission(path), Admission(path)
    held: set[int] = set()
    for _ in range(3_000):
        if held and draw.random() < 0.5:
            ticket = draw.choice(sorted(held))
            vote.release(ticket)
            held.discard(ticket)
        else:
            claimed = claim(gate, 5, NOW, LATER)
            assert (claimed is None) == (len(held) == 5)
            held |= {claimed} - {None}  # type: ignore[operator]
        assert vote.inside(NOW) == len(held)
        assert all(vote.is_valid(ticket, NOW) for ticket in held)


def test_a_ticket_fits_only_the_question_it_was_sealed_over(path: Path) -> None:
    gate, member = Admission(path), Admission(path)
    gate.open_gate()
    asked = Admitted("red shoe", "shoes", ("color", "size"), LATER)
    ticket = gate.claim(1, NOW, LATER, gate.seal(pack_question(asked))) or 0
    assert member.is_valid(ticket, NOW, member.seal(pack_question(asked)))
    for other in (
        Admitted("red shoe", "shoes", ("size", "color"), LATER),
        Admitted("red shoe", "shoes", ("color",), LATER),
        Admitted("red shoe", "shoescolor", ("size",), LATER),
        Admitted("red shoes", "hoes", ("color", "size"), LATER),
        Admitted("red shoe", "shoes", ("color", "size"), LATER + 1),
    ):
        assert not member.is_valid(ticket, NOW, member.seal(pack_question(other)))


def test_the_secret_outlives_the_gate_and_differs_between_servers(tmp_path: Path) -> None:
    first = Admission(tmp_path / "one")
    first.open_gate()
    again = Admission(tmp_path / "one")
    again.open_gate()
    other = Admission(tmp_path / "two")
    other.open_gate()
    assert first.seal(BODY) == again.seal(BODY) != other.seal(BODY)


def test_a_closed_gate_is_seen_by_everybody_and_stays_closed(path: Path) -> None:
    gate = Admission(path)
    assert not gate.is_closed
    Admission(path).close_gate()
    gate.open_gate()
    assert gate.is_closed


def test_a_file_that_leads_elsewhere_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError):
        Admission(tmp_path / "link")


def test_every_server_has_a_secret_of_its_own_and_a_new_gate_keeps_it(tmp_path: Path) -> None:
    one, two = Admission(tmp_path / "one"), Admission(tmp_path / "two")
    for admission in (one, two):
        admission.open_gate()
    seal = one.seal(BODY)
    assert seal != two.seal(BODY)
    again = Admission(tmp_path / "one")
    again.open_gate()
    assert again.seal(BODY) == seal


def test_a_gate_that_is_closed_is_closed_for_every_process(path: Path) -> None:
    gate, stopper = Admission(path), Admission(path)
    assert not gate.is_closed
    stopper.close_gate()
    assert gate.is_closed


def test_the_file_of_somebody_else_and_a_link_are_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    path.symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        Admission(path)


def test_slots_that_no_member_uses_are_taken_when_nothing_else_is_free_the_oldest_first(path: Path) -> None:
    gate, member = Admission(path), Admission(path)
    tickets = [claim(gate, 4, NOW + at, NOW + 10**12) or 0 for at in range(4)]
    member.use(tickets[1])
    assert claim(gate, 4, NOW + UNUSED_NS - 1) is None
    taken = [claim(gate, 4, NOW + UNUSED_NS + at, NOW + 10**12) or 0 for at in (0, 2, 3)]
    assert [slot & 0xFFFF for slot in taken] == [tickets[at] & 0xFFFF for at in (0, 2, 3)]
    assert claim(gate, 4, NOW + UNUSED_NS + 4) is None, "the only old one is in use"


def test_a_free_slot_goes_before_one_that_no_member_uses(path: Path) -> None:
    gate, vote = Admission(path), Admission(path)
    tickets = [claim(gate, 3, NOW, NOW + 10**12) or 0 for _ in range(3)]
    vote.release(tickets[2])
    assert ((claim(gate, 3, NOW + 2 * UNUSED_NS) or 0) & 0xFFFF) == tickets[2] & 0xFFFF
    assert gate.is_valid(tickets[0], NOW)


def test_a_request_that_lost_its_slot_is_answered_by_its_seal(path: Path) -> None:
    gate, step = Admission(path), Admission(path)
    gate.open_gate()
    seal = gate.seal(BODY)
    late = gate.claim(1, NOW, NOW + 10**12, seal) or 0
    other = claim(gate, 1, NOW + UNUSED_NS, NOW + 10**12) or 0
    assert step.is_valid(late, NOW + UNUSED_NS, seal)
    assert not step.is_valid(late, NOW + UNUSED_NS, seal ^ 1)
    assert not step.is_valid(late, NOW + UNUSED_NS)
    for call in (step.use, step.release):
        call(late)
    assert step.is_valid(other, NOW + UNUSED_NS), "it frees no slot of another"
    assert claim(gate, 1, NOW + 2 * UNUSED_NS) is not None, "nor does it use one"


def test_a_cancelled_ticket_frees_its_slot_at_once(path: Path) -> None:
    gate, member = Admission(path), Admission(path)
    gate.open_gate()
    seal = gate.seal(BODY)
    ticket = gate.claim(1, NOW, LATER, seal, "mine") or 0
    member.use(ticket)
    assert claim(gate, 1) is None
    assert member.cancelled_since(0) == []
    assert gate.cancel("mine", NOW) == 1
    assert gate.inside(NOW) == 0
    assert member.is_cancelled(ticket)
    assert member.cancelled_since(0) == [ticket]
    assert not member.is_valid(ticket, NOW, seal)
    assert claim(gate, 1) is not None
    assert not member.is_valid(ticket, NOW, seal), "its slot is another's now"
    assert gate.cancel("mine", NOW) == 0
    assert (gate.cancels, gate.inside(NOW)) == (1, 1)


@pytest.mark.parametrize("end", ["released", "expired", "other", "unknown", "nameless", "strange"])
def test_only_a_request_of_that_id_that_is_inside_is_cancelled(path: Path, end: str) -> None:
    gate, vote = Admission(path), Admission(path)
    ticket = gate.claim(4, NOW, LATER, 1, "" if end == "nameless" else "mine") or 0
    if end == "released":
        vote.release(ticket)
    name = {"other": "Mine", "unknown": "mine ", "nameless": "", "strange": "\udcff"}.get(end, "mine")
    assert gate.cancel(name, LATER + GRACE_NS if end == "expired" else NOW) == 0
    assert not vote.is_cancelled(ticket)
    assert gate.cancels == 0


def test_requests_of_one_id_are_cancelled_together(path: Path) -> None:
    gate = Admission(path)
    tickets = [gate.claim(4, NOW, LATER, seal, "twin") or 0 for seal in (1, 2)]
    other = gate.claim(4, NOW, LATER, 3, "single") or 0
    assert gate.cancel("twin", NOW) == 2
    assert gate.cancelled_since(0) == tickets
    assert gate.is_valid(other, NOW)


def test_cancellations_that_come_faster_than_a_member_looks_are_all_seen(path: Path) -> None:
    gate, member = Admission(path), Admission(path)
    tickets = []
    for number in range(1_500):
        tickets.append(claim_as(gate, str(number)))
        assert gate.cancel(str(number), NOW) == 1
        if number in (2, 3, 900):
            since = number
    assert {ticket & 0xFFFF for ticket in tickets} == {0}, "they all had the same slot"
    assert member.cancelled_since(since) == tickets[since:]
    assert member.cancelled_since(0) == tickets[-1_024:]


def claim_as(gate: Admission, name: str) -> int:
    return gate.claim(1, NOW, LATER, next(SEALS), name) or 0

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.serving.admission import CAPACITY, GRACE_NS, Admission

NOW, LATER = 10**12, 10**12 + 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tickets"


def test_no_more_than_the_limit_are_inside(path: Path) -> None:
    admission = Admission(path)
    tickets = [admission.claim(3, NOW, LATER) for _ in range(3)]
    assert len(set(tickets)) == 3
    assert None not in tickets
    assert admission.claim(3, NOW, LATER) is None
    assert admission.inside(NOW) == 3
    admission.release(tickets[1] or 0)
    assert admission.inside(NOW) == 2
    assert admission.claim(3, NOW, LATER) not in (None, *tickets)
    assert admission.claim(3, NOW, LATER) is None


def test_a_ticket_is_good_until_it_is_handed_back_or_runs_out(path: Path) -> None:
    admission = Admission(path)
    ticket = admission.claim(1, NOW, LATER)
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
    lost = admission.claim(1, NOW, LATER)
    end = LATER + GRACE_NS
    assert admission.claim(1, end - 1, end) is None
    ticket = admission.claim(1, end, end + 1)
    assert ticket is not None
    admission.release(lost or 0)
    assert admission.is_valid(ticket, end)
    assert not admission.is_valid(lost or 0, end)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**17).map(lambda slot: slot))
def test_forged_tickets_open_and_free_nothing(tmp_path_factory: pytest.TempPathFactory, forged: int) -> None:
    admission = Admission(tmp_path_factory.getbasetemp() / "forged")
    if not admission.inside(NOW):
        assert all(admission.claim(8, NOW, LATER) for _ in range(8))
    assert not admission.is_valid(forged, NOW)
    admission.release(forged)
    assert admission.inside(NOW) == 8


def test_the_secret_part_of_a_ticket_counts(path: Path) -> None:
    admission = Admission(path)
    ticket = admission.claim(8, NOW, LATER) or 0
    for bit in range(63):
        assert not admission.is_valid(ticket ^ (1 << bit), NOW)


def test_the_largest_limit_fits(path: Path) -> None:
    admission = Admission(path)
    assert len({admission.claim(CAPACITY, NOW, LATER) for _ in range(CAPACITY)} - {None}) == CAPACITY
    assert admission.claim(CAPACITY, NOW, LATER) is None


def test_two_processes_see_the_same_tickets(path: Path) -> None:
    gate = Admission(path)
    tickets = [gate.claim(4, NOW, LATER) for _ in range(4)]
    code = (
        "import sys; from pathlib import Path; from quorum.serving.admission import Admission\n"
        "vote = Admission(Path(sys.argv[1])); now = int(sys.argv[2]); tickets = list(map(int, sys.argv[3:]))\n"
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
            claimed = gate.claim(5, NOW, LATER)
            assert (claimed is None) == (len(held) == 5)
            held |= {claimed} - {None}  # type: ignore[operator]
        assert vote.inside(NOW) == len(held)
        assert all(vote.is_valid(ticket, NOW) for ticket in held)

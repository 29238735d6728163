# SPDX-License-Identifier: Apache-2.0
"""Lazy channels on a real server: the same values as from all members, with fewer of them asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.raw import bytes_tensor, grpc_request
from support.rollout import rollout_of
from support.wire import Reply
from tritonclient.grpc import service_pb2 as pb

from quorum.decision.cell import Parameters, decide_one
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.stopping import Stopping, recorded_stopping, with_stopping
from quorum.decision.weights import Weights
from quorum.operations.status import _channels
from quorum.server.probe import take_pulse
from quorum.serving.open_question import pack_open, unpack_open
from quorum.serving.packing import add_ticket, take_ticket, unpack_votes
from quorum_client import Client, Status
from quorum_contract import CANARY, CANCEL, LAZY, LAZY_CANARY, OPEN, QUESTION, STABLE, VOTES

MEMBERS = ("frail", "alpha", "beta", "gamma")
PRODUCTS = 24
RISK = 0.02
TIMEOUT_S = 8.0
EQUAL = Parameters((1.0,) * len(MEMBERS))
ROWS = (("frail", "alpha"), ("beta",), ("gamma",))
"""Of equal weights: two that agree win the tie with two that do not."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lazy")


@pytest.fixture(scope="module")
def live(place: Path) -> Iterator[Live]:
    """Asks open attributes alone; weights without limits are not moved by the flip risk.

    `frail` runs in a worker, and has the faults that the file `fault` names.
    """
    frail = {"options": {"isolated": True, "faults": "fault"}}
    members: dict[str, Any] = {name: frail if name == "frail" else {} for name in MEMBERS}
    lazy = {"whole_questions": False, "flip_risk": RISK}
    with running(write_deployment(place, members, lazy=lazy)) as live:
        yield live


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Asks whole questions, as by default."""
    members: dict[str, Any] = {name: {} for name in MEMBERS}
    with running(write_deployment(tmp_path_factory.mktemp("default"), members, lazy={})) as live:
        yield live


@pytest.fixture(autouse=True)
def _mended(place: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    set_fault(place, "")
    if "live" in request.fixturenames:
        live, end = request.getfixturevalue("live"), time.monotonic() + 60
        while statuses(ask(live, 1, STABLE), "frail") != {Status.ANSWERED}:
            assert time.monotonic() < end, "never came back"
            time.sleep(0.05)


def set_fault(place: Path, fault: str) -> None:
    fresh = place / "fault.new"
    fresh.write_text(fault)
    fresh.replace(place / "fault")


def ask(live: Live, product: int, channel: str, attributes: Sequence[str] = ATTRIBUTES, **how: Any) -> Reply:
    return live.ask(title(product), attributes, "shoes" if product % 2 else "", channel=channel, **how)


def statuses(reply: Reply, member: str) -> set[int]:
    return {status for _, status in reply.votes[member]}


def check_rows(
    full: Reply, lazy: Reply, rows: Sequence[Sequence[str]], parameters: Parameters, whole: bool = False
) -> int:
    """Check that each member was asked exactly what its row left open; returns how many cells were not.

    ``whole``: everything while any cell is open.
    """
    spared = 0
    ballots: list[dict[str, tuple[str, int]]] = [{} for _ in full.values]
    for row in rows:
        so_far = [[cell.get(name) for name in MEMBERS] for cell in ballots]
        settled = [any(cell) and is_settled(QuorumRule(), parameters, cell) for cell in so_far]
        if whole:
            settled = [all(settled)] * len(settled)
        for name in row:
            for at, cell in enumerate(ballots):
                expected = ("", Status.NOT_ASKED) if settled[at] else full.votes[name][at]
                assert lazy.votes[name][at] == expected, (at, name)
                cell[name] = lazy.votes[name][at]
            spared += sum(settled)
    return spared


@pytest.mark.parametrize("whole", [False, True])
def test_values_are_those_of_all_members_and_cells_are_spared(
    whole: bool, request: pytest.FixtureRequest
) -> None:
    live: Live = request.getfixturevalue("default" if whole else "live")
    spared = 0
    for product in range(PRODUCTS):
        full, lazy = ask(live, product, STABLE), ask(live, product, LAZY)
        assert lazy.values == full.values
        assert (lazy.members, lazy.version) == (full.members, full.version)
        spared += check_rows(full, lazy, ROWS, EQUAL, whole)
    assert spared > PRODUCTS


def test_one_attribute_or_many_are_asked_alike(live: Live) -> None:
    for attribute in ATTRIBUTES:
        full, lazy = (ask(live, 3, channel, [attribute]) for channel in (STABLE, LAZY))
        assert lazy.values == full.values


@pytest.mark.parametrize(("fault", "status"), [("garbage", 4), ("raise", 3), ("exit", 3), ("hang", 1)])
def test_a_faulty_member_of_the_first_row_costs_its_own_votes(
    live: Live, place: Path, fault: str, status: int
) -> None:
    full = ask(live, 5, STABLE)
    set_fault(place, fault)
    began = time.monotonic()
    lazy = ask(live, 5, LAZY, server_timeout_us=int(TIMEOUT_S * 1e6))
    assert time.monotonic() - began < TIMEOUT_S
    assert statuses(lazy, "frail") == {status}
    others = replace(full, votes={**full.votes, "frail": [("", status)] * len(ATTRIBUTES)})
    check_rows(others, lazy, ROWS, EQUAL)
    for at, value in enumerate(lazy.values):
        assert value == decide_one(EQUAL, [others.votes[name][at] for name in MEMBERS])[0]


def test_a_member_that_hangs_takes_its_rows_share_of_the_time(tmp_path: Path) -> None:
    hangs = {"options": {"hang_share": 1.0}}
    members: dict[str, Any] = {"alpha": hangs, "beta": hangs, "gamma": {}, "delta": {}}
    rows = [["alpha"], ["beta"], ["gamma"], ["delta"]]
    with running(write_deployment(tmp_path, members, lazy={"rows": rows})) as live:
        began = time.monotonic()
        lazy = ask(live, 1, LAZY, server_timeout_us=6_000_000)
        took = time.monotonic() - began
        full = ask(live, 1, STABLE, server_timeout_us=2_000_000)
    assert statuses(lazy, "alpha") == statuses(lazy, "beta") == {Status.TIMEOUT}
    # A tie of the last two would go to the first of them.
    assert (statuses(lazy, "gamma"), statuses(lazy, "delta")) == ({Status.ANSWERED}, {Status.NOT_ASKED})
    assert lazy.values == full.values
    # Two of four rows used up their 1.5 seconds each; the others nothing.
    assert 3.0 <= took < 6.0


def evidence_weights(live: Live) -> Weights:
    return Weights(
        "loglinear",
        MEMBERS,
        Parameters((1.0, 0.8, 1.2, 0.9), na_bias=-0.3, none_bias=-1.0),
        catalogue=live.spec.catalogue().hashes,
        evidence={"any_case": (0.5, 0.5, 0.3), "words": (2.0, 1.0, -0.1)},
        confidence="calibrated",
    )


def gamma_decides(live: Live) -> Weights:
    heavy = Parameters((1.0, 1.0, 1.0, 9.0))
    return Weights("majority", MEMBERS, heavy, catalogue=live.spec.catalogue().hashes)


@pytest.fixture
def changing(live: Live) -> Iterator[Live]:
    """A server whose channels end up pinned to version 1 again."""
    yield live
    rollout = rollout_of(live)
    rollout.end_canary()
    rollout.promote(1)


def test_rows_follow_the_version_of_each_channel(changing: Live) -> None:
    live, rollout = changing, rollout_of(changing)
    version = rollout.publish(gamma_decides(live)).version
    rollout.canary(version, 0.5)
    heavy, rows = Parameters((1.0, 1.0, 1.0, 9.0)), (("gamma",), ("frail",), ("alpha",), ("beta",))
    for product in range(PRODUCTS):
        full, lazy = ask(live, product, CANARY), ask(live, product, LAZY_CANARY)
        assert (lazy.values, lazy.version) == (full.values, version)
        assert check_rows(full, lazy, rows, heavy) == 3 * len(ATTRIBUTES)
    assert ask(live, 1, LAZY).version == 1
    rollout.promote(version)
    assert statuses(ask(live, 1, LAZY), "alpha") == {Status.NOT_ASKED}
    rollout.rollback()
    for product in range(PRODUCTS):
        full, lazy = ask(live, product, STABLE), ask(live, product, LAZY)
        assert (lazy.values, lazy.version) == (full.values, 1)
        check_rows(full, lazy, ROWS, EQUAL)


def test_the_text_counts_as_for_all_members(changing: Live) -> None:
    live, rollout = changing, rollout_of(changing)
    rollout.promote(rollout.publish(evidence_weights(live)).version)
    spared = 0
    for product in range(PRODUCTS):
        full, lazy = ask(live, product, STABLE), ask(live, product, LAZY)
        assert lazy.values == full.values
        spared += sum(status == Status.NOT_ASKED for name in MEMBERS for _, status in lazy.votes[name])
    assert spared > 0


def stops_at_color(live: Live) -> Weights:
    """Equal weights with a limit, of the color alone, by which one vote is enough."""
    stopping = Stopping((-4.0, 0.0, 0.0, 0.0), ((RISK, 0.05),), {"1": (-1.0, 0.5)}, ("color",), 100, 100)
    return with_stopping(
        Weights("majority", MEMBERS, EQUAL, catalogue=live.spec.catalogue().hashes), stopping
    )


def test_at_a_flip_risk_asking_stops_where_limits_were_learned(changing: Live) -> None:
    live, rollout = changing, rollout_of(changing)
    weights = stops_at_color(live)
    rollout.promote(rollout.publish(weights).version)
    stopping, color = recorded_stopping(weights.settings), ATTRIBUTES.index("color")
    assert stopping is not None
    flips = 0
    for product in range(PRODUCTS):
        full, lazy = ask(live, product, STABLE), ask(live, product, LAZY)
        first = full.votes["frail"][color]
        assert [lazy.votes[name][color] for name in MEMBERS] == [first, *[("", Status.NOT_ASKED)] * 3]
        assert lazy.values[color] == first[0]
        _, plain = decide_one(EQUAL, [lazy.votes[name][color] for name in MEMBERS])
        assert lazy.confidence[color] == pytest.approx(stopping.confidence(1, plain), abs=1e-6)
        others = [at for at in range(len(ATTRIBUTES)) if at != color]
        assert [lazy.values[at] for at in others] == [full.values[at] for at in others]
        assert any(lazy.votes["alpha"][at][1] == Status.ANSWERED for at in others), "others have no limit"
        flips += lazy.values[color] != full.values[color]
    assert 0 < flips < PRODUCTS


@pytest.mark.parametrize("row", [1, 2])
def test_a_member_that_hangs_in_a_later_row_costs_its_own_votes(
    changing: Live, place: Path, row: int
) -> None:
    live, rollout = changing, rollout_of(changing)
    names = ["alpha", "beta", "gamma"]
    names.insert(1 + row, "frail")
    own = Parameters(tuple(1.2 - 0.1 * names.index(name) for name in MEMBERS))
    weights = Weights("majority", MEMBERS, own, catalogue=live.spec.catalogue().hashes)
    rollout.promote(rollout.publish(weights).version)
    fulls = ((product, ask(live, product, STABLE)) for product in range(PRODUCTS))
    product, full = next(found for found in fulls if found[1].votes["alpha"] != found[1].votes["beta"])
    set_fault(place, "hang")
    began = time.monotonic()
    lazy = ask(live, product, LAZY, server_timeout_us=2_000_000)
    # The second of three rows has half of the time, the last one what is left.
    assert (1.0 if row == 1 else 1.5) <= time.monotonic() - began < TIMEOUT_S
    assert Status.TIMEOUT in statuses(lazy, "frail")
    others = replace(full, votes={**full.votes, "frail": [("", Status.TIMEOUT)] * len(ATTRIBUTES)})
    check_rows(others, lazy, (names[:2], names[2:3], names[3:]), own)
    for at, value in enumerate(lazy.values):
        assert value == decide_one(own, [others.votes[name][at] for name in MEMBERS])[0]


def test_promotions_fail_no_lazy_request(changing: Live) -> None:
    live, rollout = changing, rollout_of(changing)
    version = rollout.publish(gamma_decides(live)).version
    stopping, errors, versions = threading.Event(), list[str](), list[int]()

    def caller() -> None:
        while not stopping.is_set():
            try:
                versions.append(ask(live, 2, LAZY).version)
            except grpc.RpcError as error:
                errors.append(str(error))
            stopping.wait(0.03)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for _ in range(5):
        rollout.promote(version)
        rollout.rollback()
    stopping.set()
    for thread in callers:
        thread.join()
    assert errors == []
    assert {*versions} == {1, version}


def test_a_quorum_is_kept(tmp_path: Path) -> None:
    down = {"options": {"fail_share": 1.0}}
    members: dict[str, Any] = {"frail": down, "alpha": {}, "beta": {}, "gamma": {}}
    vote = {"min_members": 3, "min_weight": 0.5, "grace_ms": 300}
    with running(write_deployment(tmp_path, members, lazy={"whole_questions": False}, vote=vote)) as live:
        for product in range(PRODUCTS):
            full, lazy = ask(live, product, STABLE), ask(live, product, LAZY)
            assert lazy.values == full.values
            assert statuses(lazy, "gamma") == {Status.ANSWERED}, "two answers are no quorum of three"


def directly(
    live: Live, model: str, tensors: dict[str, bytes], outputs: Sequence[str] = ()
) -> dict[str, bytes]:
    # Without a version it is the latest, which the tests before this one published.
    request = pb.ModelInferRequest(model_name=model, model_version="1")
    for name, raw in tensors.items():
        request.inputs.add(name=name, datatype="UINT8", shape=[len(raw)])
        request.raw_input_contents.append(raw)
    for name in outputs:
        request.outputs.add(name=name)
    response = live.stub.ModelInfer(request, timeout=30)
    return dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))


def admitted(live: Live) -> bytes:
    """A question that the gate admits for a caller who then goes around the ensemble."""
    names = [name.encode() for name in ATTRIBUTES]
    request = grpc_request("quorum_gate", bytes_tensor([title(1).encode()]), names, b"shoes")
    response = live.stub.ModelInfer(request, timeout=30)
    return dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))[QUESTION]


def later(seconds: float = 60.0) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        (pack_open([], 1, 1, 1), [Status.NOT_ASKED] * 3),
        (pack_open([1], 1 << 62, 1, 1), [Status.NOT_ASKED, Status.ANSWERED, Status.NOT_ASKED]),
        (pack_open([0, 1, 2], 1 << 62, 1, 1), [Status.ANSWERED] * 3),
        (pack_open([0], 1, 1, 1), [Status.TIMEOUT, Status.NOT_ASKED, Status.NOT_ASKED]),
        (pack_open([3], 1 << 62, 1, 1), [Status.ERROR] * 3),
        (pack_open([1, 0], 1 << 62, 1, 1), [Status.ERROR] * 3),
        (b"\xc1" * 9, [Status.ERROR] * 3),
        (b"\x93\xdd\xff\xff\xff\xff", [Status.ERROR] * 3),
    ],
)
@pytest.mark.parametrize("member", ["alpha", "frail"])
def test_a_part_that_the_caller_made_up_harms_nobody(
    live: Live, member: str, opened: bytes, expected: list[Status]
) -> None:
    raw = directly(live, member, {QUESTION: admitted(live), OPEN: opened})
    assert [code for _, code, _ in unpack_votes(raw[VOTES])] == expected
    assert ask(live, 1, LAZY).values == ask(live, 1, STABLE).values


def test_no_part_opens_a_question_that_the_gate_did_not_admit(live: Live) -> None:
    ticket, body = take_ticket(admitted(live))
    forged = add_ticket(ticket + (1 << 16), body)
    raw = directly(live, "alpha", {QUESTION: forged, OPEN: pack_open([0], later(), 0, 1)})
    assert {code for _, code, _ in unpack_votes(raw[VOTES])} == {Status.REFUSED}


def test_the_step_between_rows_tells_strangers_nothing_and_stays_up(live: Live) -> None:
    question = admitted(live)
    sure = directly(live, "alpha", {QUESTION: question})[VOTES]
    given = {QUESTION: question, **{f"{name}_{VOTES}": sure for name in ("frail", "alpha", "beta")}}
    (name, raw), *more = directly(live, "quorum_vote", given, ["OPEN_1"]).items()
    assert (name, more, unpack_open(raw, 3).positions) == ("OPEN_1", [], ())
    for given in ({QUESTION: question}, {QUESTION: b"\xc1"}, {QUESTION: question, OPEN: b"\xc1"}):
        assert directly(live, "quorum_vote", given, ["OPEN_1"]).keys() == {"OPEN_1"}
    # All outputs are asked for where none is named; the votes that are missing are abstentions.
    decided = directly(live, "quorum_vote", {QUESTION: question})
    assert {"VALUES", "MEMBER_STATUS"} <= decided.keys()
    assert ask(live, 1, LAZY).values == ask(live, 1, STABLE).values


def test_a_cancelled_question_is_asked_of_no_later_row(live: Live, place: Path) -> None:
    set_fault(place, "hang")
    text, names = bytes_tensor([title(1).encode()]), [name.encode() for name in ATTRIBUTES]
    request = grpc_request(LAZY, text, names, b"shoes")
    request.id, request.parameters["timeout"].int64_param = "gone", 30_000_000
    call = live.stub.ModelInfer.future(request, timeout=60)
    cancel = grpc_request(LAZY, bytes_tensor([b""]), [b""], b"")
    cancel.parameters[CANCEL].string_param = "gone"
    began = time.monotonic()
    while not call.done() and time.monotonic() - began < 10:
        with pytest.raises(grpc.RpcError):
            live.stub.ModelInfer(cancel, timeout=30)
        time.sleep(0.05)
    assert call.done(), "it waits for its row although no caller waits for it"
    response = call.result()
    raw = dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))
    assert set(raw["MEMBER_STATUS"][::4]) == {int(Status.REFUSED)}


def test_clients_probes_and_status_know_the_channels(live: Live) -> None:
    with Client(live.url) as client:
        found = client.extract(title(4), list(ATTRIBUTES), lazy=True)
        assert found.channel == LAZY
        votes = {vote.member: vote for vote in found["color"].votes}
        assert votes["gamma"].status in (Status.NOT_ASKED, Status.ANSWERED)
    for channel in (LAZY, LAZY_CANARY):
        pulse = take_pulse(live.spec, live.url, channel)
        assert (pulse.ready, pulse.version) == (True, 1)
    states = _channels(live.spec, live.url, {STABLE: 1, CANARY: 1})
    assert {name: (state.pinned, state.answers) for name, state in states.items()} == dict.fromkeys(
        (STABLE, CANARY, LAZY, LAZY_CANARY), (1, True)
    )

# SPDX-License-Identifier: Apache-2.0
"""A quorum on a real server: values are withheld, and the answer says so; the last members get a grace."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.deployment import ATTRIBUTES, Live, plain_triton, running, said, title, write_deployment
from support.traces import prefix_of, shared_memory
from support.wire import Reply

import quorum
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.repository.configs import parse_config, print_config
from quorum.repository.render import render
from quorum.rollout.channels import Rollout
from quorum.server.probe import probe_decision
from quorum.serving.shared_file import SHARED_MEMORY
from quorum.votes import read_votes
from quorum_client import Client, DecisionStatus, Item, Status
from quorum_contract import CANARY, DECISION_STATUS
from quorum_contract.names import PROBE_TEXT

MEMBERS = ("alpha", "beta", "broken")
PRODUCTS = 12
GRACE_S = 0.15
LONG_S = 60
DECIDED, NO_ANSWER, NO_QUORUM = DecisionStatus


def rows() -> list[dict[str, Any]]:
    """Votes of which `beta` has none on the size, and one on the question of a probe."""
    made = [
        {
            "product": f"p{p}",
            "category": "",
            "title": title(p),
            "attribute": name,
            "votes": {
                m: None if (m, name) == ("beta", "size") else said(0, p, name) for m in (*MEMBERS, "hung")
            },
        }
        for p in range(PRODUCTS)
        for name in ATTRIBUTES
    ]
    canned = {"product": "probe", "category": "", "title": PROBE_TEXT, "attribute": "brand"}
    return [*made, {**canned, "votes": dict.fromkeys((*MEMBERS, "hung"), "x")}]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two of three must answer, with half of the weight; one fails always. A canary gives that one most."""
    members: dict[str, Any] = {name: {} for name in MEMBERS}
    members["broken"] = {"options": {"fail_share": 1}}
    vote = {"min_members": 2, "min_weight": 0.5}
    with running(write_deployment(tmp_path_factory.mktemp("rule"), members, rows=rows(), vote=vote)) as live:
        rollout = Rollout(
            live.spec, live.control, lambda channel: probe_decision(live.spec, live.url, channel)
        )
        weights = Weights("majority", MEMBERS, Parameters((1.0, 1.0, 8.0)))
        # Verified by a question that members answer, and whose value this version withholds.
        rollout.canary(rollout.publish(weights).version, 0.5)
        yield live


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One of four hangs, with all the time of the world but for the grace."""
    members: dict[str, Any] = {name: {"timeout_s": LONG_S} for name in (*MEMBERS, "hung")}
    members["broken"]["options"] = {"fail_share": 1}
    members["hung"] |= {"options": {"hang_share": 1}, "max_in_flight": 10_000}
    deploy = write_deployment(
        tmp_path_factory.mktemp("grace"),
        members,
        rows=rows(),
        vote={"min_members": 2, "grace_ms": GRACE_S * 1e3},
        gate={"timeout_s": LONG_S},
    )
    with running(deploy) as live:
        prefix, pid = prefix_of(live.server), live.server.pid
        yield live
        assert {f"{prefix}admission", f"{prefix}answered"} <= shared_memory(prefix)
        assert not [*SHARED_MEMORY.glob(f"quorum-{pid}_*")], "named after a process id, which is not unique"
    assert not shared_memory(prefix)


def test_a_value_is_withheld_where_too_few_members_answered(live: Live) -> None:
    with Client(live.url) as client:
        found = client.extract(title(0), ATTRIBUTES)
    assert [answer.status for answer in found.answers] == [DECIDED, DECIDED, NO_QUORUM]
    brand, size = found["brand"], found["size"]
    assert (brand.value, brand.confidence) == (said(0, 0, "brand"), 1.0)
    assert (size.value, size.confidence) == (None, 0.0)
    assert [vote.status for vote in size.votes] == [Status.ANSWERED, Status.UNPARSABLE, Status.ERROR]
    assert size.votes[0].value == said(0, 0, "size")


def test_a_caller_that_knows_no_status_sees_an_empty_value(live: Live) -> None:
    reply = live.ask(title(0), ATTRIBUTES)
    assert reply.values == [said(0, 0, "brand"), said(0, 0, "color"), ""]
    assert reply.confidence == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("text", "how"), [("unknown", {}), (title(0), {"members_timeout_s": 0})])
def test_where_nobody_answers_the_answer_says_that(live: Live, text: str, how: dict[str, Any]) -> None:
    with Client(live.url) as client:
        found = client.extract(text, ATTRIBUTES, **how)
    assert {answer.status for answer in found.answers} == {NO_ANSWER}
    assert not any(vote.value for answer in found.answers for vote in answer.votes)


def test_a_version_that_trusts_the_member_that_is_down_withholds_all(live: Live) -> None:
    with Client(live.url) as client:
        stable = client.extract(title(1), ATTRIBUTES)
        canary = client.extract(title(1), ATTRIBUTES, channel=CANARY)
    assert (stable.weights_version, canary.weights_version) == (1, 2)
    assert [answer.status for answer in stable.answers] == [DECIDED, DECIDED, NO_QUORUM]
    assert [answer.status for answer in canary.answers] == [NO_QUORUM] * 3
    assert [a.votes for a in stable.answers] == [a.votes for a in canary.answers]


def test_files_of_answers_say_so_and_the_votes_are_recorded(live: Live, tmp_path: Path) -> None:
    listings = tmp_path / "in.jsonl"
    listings.write_text("\n".join(json.dumps({"id": f"p{p}", "title": title(p)}) for p in range(PRODUCTS)))
    for ending, votes in (("csv", "votes.parquet"), ("jsonl", "votes.jsonl")):
        options = quorum.ExtractOptions(
            out=tmp_path / f"out.{ending}", votes=tmp_path / votes, url=live.url, escaped=False
        )
        report = quorum.extract(live.spec, listings, options)
        assert (report.tally.decided, report.tally.undecided) == (2 * PRODUCTS, {"NO_QUORUM": PRODUCTS})
        recorded = read_votes(tmp_path / votes)
        assert {cell.attribute: cell.values[:2] for cell in recorded.cells[:3]} == {
            "brand": (said(0, 0, "brand"),) * 2,
            "color": (said(0, 0, "color"),) * 2,
            "size": (said(0, 0, "size"), None),
        }
    (first, *_) = csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8", newline=""))
    wanted = {"brand": (said(0, 0, "brand"), "DECIDED"), "size": ("", "NO_QUORUM")}
    assert {name: (first[name], first[f"{name}_status"]) for name in wanted} == wanted
    line = json.loads((tmp_path / "out.jsonl").read_text("utf-8").splitlines()[0])["attributes"]
    assert {name: (line[name]["value"] or "", line[name]["status"]) for name in wanted} == wanted


def test_a_canary_is_compared_by_what_callers_get(live: Live, tmp_path: Path) -> None:
    listings = tmp_path / "in.jsonl"
    gold = ({n: [said(0, p, n)] for n in ATTRIBUTES} for p in range(PRODUCTS))
    listings.write_text(
        "\n".join(json.dumps({"id": f"p{p}", "title": title(p), "gold": g}) for p, g in enumerate(gold))
    )
    votes = tmp_path / "votes.jsonl"
    quorum.extract(live.spec, listings, quorum.ExtractOptions(votes=votes, url=live.url))
    by_votes = quorum.canary_report(live.spec, quorum.CanaryOptions(votes=votes)).comparison
    options = quorum.CanaryOptions(replay=listings, url=live.url)
    by_replay = quorum.canary_report(live.spec, options).comparison
    for found in (by_votes, by_replay):
        assert found.accuracy
        assert (found.accuracy.stable, found.accuracy.canary) == (pytest.approx(2 / 3), 0.0)
        assert found.changed.value == pytest.approx(2 / 3)


def test_a_repository_that_an_earlier_release_rendered_still_serves(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))
    render(spec)
    for path in spec.repository_path.glob("*/config.pbtxt"):
        config = parse_config(path.read_text("utf-8"))
        outputs = [output for output in config.output if output.name != DECISION_STATUS]
        del config.output[:]
        config.output.extend(outputs)
        for step in config.ensemble_scheduling.step:
            step.output_map.pop(DECISION_STATUS, None)
        if "quorum" in config.parameters:
            settings = json.loads(config.parameters["quorum"].string_value)
            for name in ("grace", "min_members", "min_weight"):
                settings.pop(name, None)
            config.parameters["quorum"].string_value = json.dumps(settings)
        path.write_text(print_config(config), "utf-8")
    with plain_triton(spec.path) as live, Client(live.url) as client:
        found = [client.extract(text, ["brand"])["brand"] for text in (title(0), "unknown")]
    assert [(answer.value, answer.status) for answer in found] == [("brand-0", DECIDED), (None, NO_ANSWER)]


def timed(live: Live, product: int, **how: Any) -> tuple[float, Reply]:
    start = time.monotonic()
    reply = live.ask(title(product), ("brand", "color"), **how)
    return time.monotonic() - start, reply


def check_hung_alone(reply: Reply, product: int) -> None:
    assert reply.values == [said(0, product, "brand"), said(0, product, "color")]
    assert {status for _, status in reply.votes["hung"]} == {Status.TIMEOUT}
    assert {status for _, status in reply.votes["alpha"] + reply.votes["beta"]} == {Status.ANSWERED}


def test_the_last_member_gets_the_grace_and_not_the_whole_deadline(patient: Live) -> None:
    for product in range(3):
        took_s, reply = timed(patient, product)
        check_hung_alone(reply, product)
        assert GRACE_S <= took_s < LONG_S / 2


def test_many_questions_at_a_time_each_get_their_own_grace(patient: Live) -> None:
    with ThreadPoolExecutor(48) as pool:
        found = list(pool.map(lambda n: (n % PRODUCTS, *timed(patient, n % PRODUCTS)), range(480)))
    for product, took_s, reply in found:
        check_hung_alone(reply, product)
        assert GRACE_S <= took_s < LONG_S / 2


def test_an_abstention_does_not_begin_the_grace(patient: Live) -> None:
    """`beta` has no size, and `broken` fails: one answer is not two."""
    start = time.monotonic()
    reply = patient.ask(title(0), ["size"], server_timeout_us=4_000_000)
    assert time.monotonic() - start > 5 * GRACE_S
    assert reply.values == [""]
    assert reply.votes["alpha"] == [(said(0, 0, "size"), 0)]
    assert reply.votes["hung"] == [("", Status.TIMEOUT)]


def test_the_callers_deadline_comes_before_the_grace(patient: Live) -> None:
    with Client(patient.url) as client:
        found = client.extract(title(2), ["brand"], members_timeout_s=GRACE_S / 2)
        assert found["brand"].votes[3].status is Status.TIMEOUT
        both = client.extract_many([Item(title(p), ["brand"]) for p in range(PRODUCTS)])
        assert [result["brand"].value for result in both] == [said(0, p, "brand") for p in range(PRODUCTS)]

# SPDX-License-Identifier: Apache-2.0
"""Encoders as members on a real server: every head votes with scores, and a lost worker comes back."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import psutil
import pytest
from support.deployment import Live, running, write_deployment
from support.encoders import write_encoder

from quorum.decision.catalogue_change import OUTSIDE
from quorum.serving.isolation import program
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.default import Default
from quorum_client import Client
from quorum_contract import Status

pytestmark = pytest.mark.skipif(not find_spec("onnx"), reason="needs onnx: run `make setup-tune`")

TEXT = "Acme dark red case"
ATTRIBUTES: dict[str, Any] = {
    "shade": {"kind": "label", "values": ["red", "blue"]},
    "entities": {"kind": "spans", "values": ["color", "core"]},
    "brand": {},
}
CATALOGUE = Catalogue.of(
    [
        Attribute("shade", values=("red", "blue"), kind="label", allow_na=False),
        Attribute("entities", values=("color", "core"), kind="spans"),
        Attribute("brand"),
    ],
    default=Default("Is {name} what a buyer wants?", ("0", "1", "2")),
)
ASKED = {"question": "Is {name} what a buyer wants?", "values": ["0", "1", "2"]}
SPANS = '[["dark red","color"],["case","core"]]'
SAID = {"shade": "red", "entities": SPANS, "brand": "acme"}
SOUND = {"shade": "blue", "entities": SPANS, "brand": "acme"}
MEMBERS = {"labels": "shade", "tags": "entities", "values": "brand"}
KEYPHRASES = ("red case", 'blue "x" {name}', "shades")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(
        folder / "labels",
        "label",
        {"red": [4.0, 0.0], "blue": [0.0, 4.0]},
        CATALOGUE,
        ["shade"],
        ["red", "blue"],
    )
    tags = ["O", "B-color", "I-color", "B-core", "I-core"]
    table = {
        "acme": [9, 0, 0, 0, 0],
        "dark": [0, 9, 0, 0, 0],
        "red": [0, 0, 9, 0, 0],
        "case": [0, 0, 0, 9, 0],
    }
    write_encoder(folder / "tags", "spans", table, CATALOGUE, ["entities"], tags)
    values = {"[CLS]": [2.0, 2.0], "acme": [5.0, 5.0]}
    write_encoder(folder / "values", "value", values, CATALOGUE, ["brand"])
    pairs = {"acme": [1.0, 0.0], "red": [0.0, 3.0], "blue": [3.0, 0.0], "dark": [0.0, 0.0]}
    write_encoder(folder / "pairs", "label", pairs, CATALOGUE, [OUTSIDE], ["0", "2"])
    members: dict[str, Any] = {
        name: {"runtime": "encoder", "options": {"model": name}, "timeout_s": 10}
        for name in (*MEMBERS, "pairs")
    }
    rows = [
        {"product": "p", "category": "", "title": TEXT, "attribute": name, "votes": {"sound": value}}
        for name, value in (SOUND | dict.fromkeys(KEYPHRASES, "1")).items()
    ]
    path = write_deployment(
        folder, members | {"sound": {"timeout_s": 10}}, rows=rows, attributes=ATTRIBUTES, default=ASKED
    )
    with running(path) as live:
        yield live


def worker_of(live: Live, member: str) -> psutil.Process:
    """The worker that runs in the step of a member, by the name that its command line has."""
    assert live.server.pid
    (found,) = [
        process
        for process in psutil.Process(live.server.pid).children(recursive=True)
        if program.__name__ in process.cmdline() and member in " ".join(step_of(process))
    ]
    return found


def step_of(process: psutil.Process) -> list[str]:
    parent = process.parent()
    return parent.cmdline() if parent else []


def test_each_head_votes_with_a_score(live: Live) -> None:
    with Client(live.url) as client:
        found = client.extract(TEXT, list(SAID))
    for answer, (name, said) in zip(found.answers, SAID.items(), strict=True):
        votes = {vote.member: vote for vote in answer.votes}
        for member, own in MEMBERS.items():
            vote = votes[member]
            if own != name:
                assert vote.status == Status.NOT_ASKED
                continue
            assert (vote.value, vote.status) == (said, Status.ANSWERED)
            assert vote.score is not None
            assert -2 < vote.score < 0
        assert votes["sound"].value == SOUND[name]
    label = next(vote for vote in found.answers[0].votes if vote.member == "labels")
    assert label.score == pytest.approx(4 - math.log(math.exp(4) + 1), abs=1e-5)
    assert found.answers[1].value == SPANS
    assert found.answers[2].value == "acme"


def test_an_encoder_answers_what_the_catalogue_does_not_list(live: Live) -> None:
    """TEXT and the keyphrase are its pair: TEXT says red once, and the keyphrase red, blue or nothing."""
    with Client(live.url) as client:
        found = client.extract(TEXT, ["brand", *KEYPHRASES])
    votes = [{vote.member: vote for vote in answer.votes} for answer in found.answers]
    assert votes[0]["pairs"].status == Status.NOT_ASKED
    for own, red in zip(votes[1:], (6 - 1, 3 - 1 - 3, 3 - 1), strict=True):
        vote = own["pairs"]
        assert (vote.value, vote.status) == ("2" if red > 0 else "0", Status.ANSWERED)
        assert vote.score == pytest.approx(-math.log1p(math.exp(-abs(red))), abs=1e-4)
        assert own["sound"].value == "1"
        assert own["labels"].status == own["values"].status == Status.NOT_ASKED


def test_a_killed_worker_abstains_and_comes_back(live: Live) -> None:
    names = [*SAID]

    def status(member: str) -> int:
        reply = live.ask(TEXT, names)
        return int(reply.votes[member][names.index(MEMBERS[member])][1])

    assert status("tags") == Status.ANSWERED
    worker = worker_of(live, "tags")
    os.kill(worker.pid, signal.SIGKILL)
    seen = {status("tags")}
    end = time.monotonic() + 30
    while status("tags") != Status.ANSWERED:
        reply = live.ask(TEXT, names)
        assert reply.votes["labels"][0] == ("red", Status.ANSWERED)
        assert time.monotonic() < end, "never came back"
        seen.add(status("tags"))
        time.sleep(0.02)
    assert seen - {Status.ANSWERED} <= {Status.ERROR, Status.TIMEOUT}
    assert seen & {Status.ERROR, Status.TIMEOUT}
    assert worker_of(live, "tags").pid != worker.pid

# SPDX-License-Identifier: Apache-2.0
"""The review page over HTTP, served by the command: who is let in, what it answers, what is kept."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pyarrow import ArrowInvalid
from support.command import quorum
from support.review_page import Page, rows, serving, write_votes

from quorum import learn
from quorum.decision.weights import dump
from quorum.review.choose import LabelError
from quorum.review.page.desk import Desk, ReviewOptions
from quorum.review.page.export import ReviewFormat
from quorum.review.page.journal import read_journal
from quorum.review.web.access import Access, checked_token
from quorum.review.web.connection import REQUEST_S
from quorum.review.web.serve import PageOptions, export_review, saving, serve_review
from quorum.votes import VotesError, read_votes
from quorum_contract.errors import QuorumError

TOKEN = "0123456789abcdef"
OWN = {"host": "127.0.0.1:80", "authorization": f"Bearer {TOKEN}", "content-type": "application/json"}


@pytest.mark.parametrize(
    ("host", "name", "header", "taken"),
    [
        pytest.param("127.0.0.1", "", "127.0.0.1:4321", True, id="its address"),
        pytest.param("127.0.0.1", "", "localhost:4321", True, id="localhost"),
        pytest.param("127.0.0.1", "", "[::1]:4321", True, id="loopback of IPv6"),
        pytest.param("127.0.0.1", "", "127.0.0.1:80", False, id="another port"),
        pytest.param("127.0.0.1", "", "127.0.0.1", False, id="no port"),
        pytest.param("127.0.0.1", "", "evil.test:4321", False, id="a name that resolves to it"),
        pytest.param("127.0.0.1", "", "127.0.0.1.evil.test:4321", False, id="a name that looks like it"),
        pytest.param("127.0.0.1", "", "10.0.0.7:4321", False, id="another address"),
        pytest.param("127.0.0.1", "", "a@127.0.0.1:4321, b", False, id="two headers"),
        pytest.param("127.0.0.1", "", "", False, id="no header"),
        pytest.param("0.0.0.0", "", "10.0.0.7:4321", True, id="every address: an address"),
        pytest.param("0.0.0.0", "", "evil.test:4321", False, id="every address: a name"),
        pytest.param("0.0.0.0", "review.test", "review.test", True, id="the name of a proxy"),
        pytest.param("box.test", "", "box.test:4321", True, id="the name that it listens at"),
    ],
)
def test_only_its_own_names_are_taken(host: str, name: str, header: str, taken: bool) -> None:
    refused = Access(host, 4321, TOKEN, name).refusal("GET", "/", {"host": header})
    assert (refused is None) is taken
    assert refused is None or refused[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        pytest.param("GET", "/api/state", {}, None, id="with the token"),
        pytest.param("GET", "/api/state", {"authorization": ""}, 401, id="without"),
        pytest.param("GET", "/api/state", {"authorization": "Bearer é" + TOKEN}, 401, id="another"),
        pytest.param("POST", "/api/decide", {"origin": "http://127.0.0.1:80"}, None, id="own origin"),
        pytest.param("POST", "/api/decide", {"origin": "http://evil.test"}, 403, id="another origin"),
        pytest.param("POST", "/api/decide", {"origin": "http://127.0.0.1:81"}, 403, id="another port"),
        pytest.param("POST", "/api/decide", {"origin": "null"}, 403, id="an origin that hides"),
        pytest.param("GET", "/", {"origin": "http://["}, 403, id="an origin that is no address"),
        pytest.param("POST", "/api/decide", {"sec-fetch-site": "cross-site"}, 403, id="another site"),
        pytest.param("POST", "/api/decide", {"content-type": "text/plain"}, 415, id="a form of another site"),
        pytest.param("POST", "/", {}, 405, id="nothing to post to"),
        pytest.param("GET", "/", {"authorization": ""}, None, id="the page itself holds no secret"),
        pytest.param("GET", "/", {"sec-fetch-site": "cross-site"}, None, id="a link on another site"),
    ],
)
def test_a_call_needs_token_and_own_origin(
    method: str, path: str, headers: dict[str, str], status: int | None
) -> None:
    refused = Access("127.0.0.1", 80, TOKEN).refusal(method, path, OWN | headers)
    assert (refused[0] if refused else None) == status


def test_an_address_that_others_reach_needs_a_token() -> None:
    for host in ("0.0.0.0", "10.0.0.7", "::", "box.test"):
        with pytest.raises(LabelError, match="others reach that address"):
            checked_token(host, None)
        assert checked_token(host, TOKEN) == TOKEN
    for short in ("", "0123456789", "0123 56789abcdef", "0123456789abcdé0"):
        with pytest.raises(LabelError, match="at least 16"):
            checked_token("127.0.0.1", short)
    assert len({checked_token("127.0.0.1", None) for _ in range(3)}) == 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    folder = tmp_path_factory.mktemp("page")
    write_votes(folder / "votes.jsonl", rows())
    with serving(folder, "votes.jsonl", "--out", "labels.jsonl", "--reviewer", "ann") as page:
        yield page, folder


def test_every_answer_forbids_scripts_from_elsewhere(served: tuple[Page, Path]) -> None:
    page, _ = served
    for path, status in (
        ("/", 200),
        ("/review.js", 200),
        ("/review.css", 200),
        ("/icon.svg", 200),
        ("/x", 404),
    ):
        found, headers, content = page.ask(path)
        assert found == status
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        if path == "/":
            # Nothing inline that the policy would have to allow, nothing from elsewhere.
            assert "style=" not in content
            assert "onclick" not in content
            assert "http" not in content.replace("http-equiv", "")
            assert "<script src=" in content
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert name not in page.ask("/review.js")[2]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        pytest.param("/api/state?reviewer=eve", None, 400, "'eve' is no reviewer", id="a stranger"),
        pytest.param("/api/state?mode=x", None, 400, "Invalid enum value", id="another mode"),
        pytest.param("/api/decide", b"{", 400, "truncated", id="no JSON"),
        pytest.param("/api/decide", b"\xff", 400, "malformed", id="no text"),
        pytest.param("/api/decide", {"reviewer": "ann"}, 400, "missing required field", id="too little"),
        pytest.param("/api/decide", b" " * (1 << 17), 400, "more than 65536 bytes", id="too much"),
        pytest.param("/api/undo", {"reviewer": "ann"}, 400, "nothing to undo", id="nothing to undo"),
        pytest.param(
            "/api/decide",
            {"reviewer": "ann", "product": "p1", "attribute": "color", "verdict": "undo"},
            400, "Invalid enum value", id="no verdict",
        ),
    ],
)  # fmt: skip
def test_a_malformed_call_is_answered_and_keeps_nothing(
    served: tuple[Page, Path], path: str, body: Any, status: int, message: str
) -> None:
    page, folder = served
    found, _, content = page.ask(path, body)
    assert found == status
    assert message in content["error"]
    assert read_journal(folder / "labels.journal.jsonl") == []


def test_half_a_surrogate_pair_in_a_decision_is_refused(served: tuple[Page, Path]) -> None:
    page, _ = served
    body = b'{"reviewer":"ann","product":"p1","attribute":"color","verdict":"answer","typed":"\\ud800"}'
    assert page.ask("/api/decide", body)[0] == 400


def test_killed_at_once_no_decision_is_lost_and_learn_reads_the_table(tmp_path: Path) -> None:
    votes = write_votes(tmp_path / "votes.jsonl", rows())
    with serving(tmp_path, votes, "--out", "labels.jsonl", "--reviewer", "ann") as page:
        state = page.ask("/api/state?reviewer=ann")[2]
        for _ in range(50):
            state = page.decide(state, chosen=state["card"]["answer"])
        page.process.send_signal(signal.SIGKILL)
        page.process.wait()
        done = state["progress"]["done"]
    assert done == 50
    # Without a page: the table, and tasks for another program.
    tasks = tmp_path / "tasks.json"
    options, targets = ReviewOptions(reviewers=["ann"]), [("label-studio", tasks)]
    report = export_review(votes, tmp_path / "labels.jsonl", options, targets)  # type: ignore[arg-type]
    assert (report.labels, report.tally.cells, report.out) == (50, 50, tmp_path / "labels.jsonl")
    assert len(json.loads(tasks.read_text())) == 60
    assert sum(bool(cell.gold) for cell in read_votes(tmp_path / "labels.jsonl").cells) == 50
    assert learn(tmp_path / "labels.jsonl").weights.provenance["gold_labels"] == 50


SERVED_FROM_PYTHON = """
import quorum

page = quorum.PageOptions(token="0123456789abcdef")
report = quorum.serve_review("votes.jsonl", "labels.jsonl", quorum.ReviewOptions(reviewers=["ann"]), page,
                             started=lambda urls: print(urls[0], flush=True))
print(report.labels, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_python_a_signal_ends_the_review_with_its_table(tmp_path: Path, number: signal.Signals) -> None:
    write_votes(tmp_path / "votes.jsonl", rows())
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED_FROM_PYTHON], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        page = Page(process, [process.stdout.readline().strip()])
        state = page.ask("/api/state?reviewer=ann")[2]
        for _ in range(3):
            state = page.decide(state, chosen=state["card"]["answer"])
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (said, process.returncode) == ("3\n", 0)
    assert read_votes(tmp_path / "labels.jsonl").labelled.sum() == 3


def test_a_table_that_cannot_be_written_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [OSError(28, "No space left", "labels"), VotesError("bad"), ArrowInvalid("odd")]
    told: list[str] = []
    again = Event()

    def save(desk: Desk) -> int:
        if errors:
            raise errors.pop(0)
        again.set()
        return 0

    monkeypatch.setattr(Desk, "save", save)
    monkeypatch.setattr("quorum.review.web.serve._LEAST_PAUSE_S", 0.01)
    votes = write_votes(tmp_path / "votes.jsonl", rows(3))
    with (
        Desk(votes, tmp_path / "labels.jsonl", ReviewOptions(reviewers=["ann"])) as desk,
        saving(desk, told.append) as changed,
    ):
        changed.set()
        assert again.wait(10)
    assert [text.partition(";")[0] for text in told] == ["labels: No space left", "bad", "odd"]
    assert all("decisions are kept" in text for text in told)


def test_what_cannot_be_reviewed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    votes = write_votes(tmp_path / "votes.jsonl", rows(3))
    out, ann = tmp_path / "labels.jsonl", ReviewOptions(reviewers=["ann"])
    for options, page, message in (
        (ann, PageOptions(host="0.0.0.0"), "others reach that address"),
        (ReviewOptions(reviewers=[" "]), None, "1 to 64 printable"),
        (ReviewOptions(reviewers=["ann"], overlap=2.0), None, "overlap is 2"),
        (ReviewOptions(reviewers=["ann"], weights="none.json"), None, "cannot be read"),
        (ann, PageOptions(host="192.0.2.1", token=TOKEN), "cannot listen at 192.0.2.1"),
    ):
        with pytest.raises(QuorumError, match=message):
            serve_review(votes, out, options, page)
        out.with_name("labels.journal.jsonl").unlink(missing_ok=True)
    write_votes(votes, [row | {"gold": ["red"]} for row in rows(3)])
    with pytest.raises(LabelError, match="nothing is left to review"):
        serve_review(votes, out, ann)
    assert [path.name for path in tmp_path.iterdir()] == ["votes.jsonl"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        pytest.param({"argilla": "votes.jsonl"}, "the votes table", id="votes"),
        pytest.param({"argilla": "sub/../votes.jsonl"}, "the votes table", id="votes by another path"),
        pytest.param({"argilla": "labels.jsonl"}, "the table with gold", id="out"),
        pytest.param({"argilla": "labels.journal.jsonl"}, "the journal", id="journal"),
        pytest.param({"argilla": "weights.json"}, "the weights", id="weights"),
        pytest.param({"label-studio": "x.json", "argilla": "x.json"}, "another export", id="each other"),
        pytest.param({"label-studio": "tasks.xml"}, "labelling interface", id="the interface"),
        pytest.param({"argilla": "TASKS.XML"}, "labelling interface", id="the interface of another"),
    ],
)
def test_an_export_over_a_file_of_the_review_is_refused(
    tmp_path: Path, targets: dict[ReviewFormat, str], message: str
) -> None:
    votes = write_votes(tmp_path / "votes.jsonl", rows(3))
    (tmp_path / "sub").mkdir()
    weights = learn(votes).weights
    dump(weights, tmp_path / "weights.json")
    options = ReviewOptions(reviewers=["ann"], weights=tmp_path / "weights.json")
    with Desk(votes, tmp_path / "labels.jsonl", options) as desk:
        card = desk.state("ann", "review")["card"]
        desk.decide("ann", "review", (card["product"], card["attribute"]), "answer", typed="red")
        desk.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(LabelError, match=f"--export .*{message}"):
        export_review(
            votes,
            tmp_path / "labels.jsonl",
            options,
            [(form, tmp_path / name) for form, name in targets.items()],
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_the_command_names_the_programs_that_it_writes_for(tmp_path: Path) -> None:
    votes = write_votes(tmp_path / "votes.jsonl", rows(3))
    said = quorum(tmp_path, "review", votes, "--export", "excel=x", code=1)[1]
    assert "with one of label-studio, argilla" in said


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nX: ", b"x", id="a header that drips"),
        pytest.param(b"", b"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", id="requests without the token"),
    ],
)
def test_open_connections_without_the_token_do_not_keep_reviewers_out(
    served: tuple[Page, Path], first: bytes, then: bytes
) -> None:
    page, _ = served
    with ExitStack() as stack:
        address = ("127.0.0.1", page.port)
        first, then = (part.replace(b"HOST", b"127.0.0.1:%d" % page.port) for part in (first, then))
        held = [stack.enter_context(socket.create_connection(address)) for _ in range(63)]
        for one in held:
            one.sendall(first)
        start = time.monotonic()
        while page.ask("/api/state?reviewer=ann")[0] != 200 or time.monotonic() < start + 1.0:
            assert time.monotonic() < start + REQUEST_S + 5.0, "still kept out"
            for one in held:
                with suppress(OSError):
                    one.sendall(then)
            time.sleep(0.5)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_decision_is_refused_while_the_journal_is_moved_away(tmp_path: Path, replaced: bool) -> None:
    write_votes(tmp_path / "votes.jsonl", rows(3))
    with serving(tmp_path, "votes.jsonl", "--out", "labels.jsonl", "--reviewer", "ann") as page:
        state = page.decide(page.ask("/api/state?reviewer=ann")[2], typed="red")
        path, moved = tmp_path / "labels.journal.jsonl", tmp_path / "moved"
        path.rename(moved)
        if replaced:
            path.write_bytes(moved.read_bytes())
        body = {"reviewer": "ann", "product": state["card"]["product"], "attribute": "color"}
        for call in ("/api/undo", "/api/decide"):
            status, _, content = page.ask(call, body | {"verdict": "answer", "typed": "red"})
            assert status == 507
            assert content["error"].startswith("not kept: ")
            assert content["error"].endswith("somebody has moved or replaced it; put it back; decide again")
        moved.rename(path)
        page.decide(state, typed="red")
        assert len(read_journal(path)) == 2


def test_each_votes_table_has_labels_of_its_own_by_default(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        votes = write_votes(tmp_path / f"{day}.jsonl", rows(3))
        quorum(tmp_path, "review", votes, "--export", "argilla=x.json")
    found = sorted(path.name for path in tmp_path.glob("*.labels.*"))
    assert found == ["monday.labels.journal.jsonl", "tuesday.labels.journal.jsonl"]

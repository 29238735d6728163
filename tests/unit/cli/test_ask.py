# SPDX-License-Identifier: Apache-2.0
"""`quorum ask` shows every vote whole, whatever the width; with a server in ``tests/e2e``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment

import quorum
from quorum.bulk.ask import why_withheld
from quorum.cli import console
from quorum_client import Answer, DecisionStatus, Extraction, Status, Tls, Unauthenticated, Vote

MEMBERS = ("demo-llama", "demo-qwen2", "demo-qwen3", "catalogue-2024", "a [new] member")


def answer(name: str, value: str) -> Answer:
    given = [Vote(member, value, Status.ANSWERED, -0.1) for member in MEMBERS[:-2]]
    given += [Vote(MEMBERS[-2], None, Status.NOT_ASKED), Vote(MEMBERS[-1], None, Status.UNPARSABLE)]
    return Answer(name, value, 0.875, tuple(given))


@pytest.mark.parametrize(("columns", "rows"), [(60, 12), (80, 12), (200, 2)])
def test_no_header_and_no_vote_is_cut(
    run: Any, monkeypatch: pytest.MonkeyPatch, columns: int, rows: int
) -> None:
    found = Extraction("id", (answer("closure type", "hook and loop"), answer("color", "dark blue")), 1, 0.01)
    monkeypatch.setattr(quorum, "ask", lambda *_, **__: found, raising=False)
    # A console that was imported under COLUMNS keeps that width.
    monkeypatch.setattr(console.out, "_width", columns)
    code, out, err = run("ask", "a shirt")
    assert code == 0, err
    assert "…" not in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= columns
    for words in ("closure type", "confidence", "(not asked)", "(no usable answer)", *MEMBERS):
        assert words in out
    assert out.count("dark blue") == 4
    body = [line for line in lines[lines.index(next(filter(_is_rule, lines))) + 1 :] if line.strip()]
    assert len(body) == rows
    assert sum("88%" in line for line in body) == 2


@pytest.mark.parametrize("columns", [60, 200])
def test_a_withheld_value_is_not_taken_for_silence(
    run: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    votes = answer("size", "42").votes
    answers = (
        Answer("size", None, 0.0, votes, DecisionStatus.NO_QUORUM),
        Answer("color", None, 0.0, votes[-2:] * 3, DecisionStatus.NO_ANSWER),
    )
    found = Extraction("id", answers, 1, 0.01)
    monkeypatch.setattr(quorum, "ask", lambda *_, **__: found, raising=False)
    monkeypatch.setattr(console.out, "_width", columns)
    code, out, err = run("ask", "a shirt")
    assert code == 0, err
    words = " ".join(out.replace("│", " ").split())
    assert "(no member answered)" in words
    assert "(no quorum)" in words
    assert "no quorum: size is withheld: " in err
    assert "color is withheld" not in err
    code, out, err = run("ask", "a shirt", "--json")
    found = json.loads(out)["attributes"]
    assert [cell["status"] for cell in found.values()] == ["NO_QUORUM", "NO_ANSWER"]


@pytest.mark.parametrize(
    ("vote", "words"),
    [
        ({"min_members": 2}, "1 of 3 members answered, `vote.min_members` is 2"),
        (
            {"min_weight": 0.5},
            "the 1 of 3 members that answered have less of .*min_weight`, 0.5",
        ),
        ({"min_members": 2, "min_weight": 0.5}, "`vote.min_members` is 2"),
        ({}, "1 of 3 members answered, and `vote` of the server demands more"),
    ],
)
def test_a_withheld_value_lacks_members_or_weight(tmp_path: Path, vote: dict[str, Any], words: str) -> None:
    spec = quorum.load_deployment(write_deployment(tmp_path, {name: {} for name in "abc"}, vote=vote))
    votes = (Vote("a", "red", Status.ANSWERED), *(Vote(name, None, Status.TIMEOUT) for name in "bc"))
    assert re.search(words, why_withheld(spec, Answer("color", None, 0.0, votes, DecisionStatus.NO_QUORUM)))


def _is_rule(line: str) -> bool:
    return set(line) <= {" ", "─"} and bool(line.strip())


UNSAFE = "\x00\x07\x1b[2J\x7f\x9b31m\u202e\u2066\u200f\ud800"


@pytest.mark.parametrize("columns", [60, 200])
def test_values_cannot_steer_the_terminal(run: Any, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    found = Extraction("id", (answer(f"si{UNSAFE}ze", f"blue{UNSAFE}green"),), 1, 0.01)
    monkeypatch.setattr(quorum, "ask", lambda *_, **__: found, raising=False)
    monkeypatch.setattr(console.out, "_width", columns)
    code, out, err = run("ask", "a shirt")
    assert code == 0, err
    assert not set(UNSAFE.replace("[2J", "").replace("31m", "")) & set(out)
    assert "blue[2J31mgreen" in out
    assert len({len(line) for line in out.splitlines() if line}) == 1


def test_json_keeps_values_and_escapes_what_steers_the_terminal(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Extraction("id", (answer("size", f"größe{UNSAFE}"),), 1, 0.01)
    monkeypatch.setattr(quorum, "ask", lambda *_, **__: found, raising=False)
    code, out, err = run("ask", "a shirt", "--json")
    assert code == 0, err
    assert "größe" in out
    assert not set("\x1b\x7f\x9b\u202e\u2066\u200f\ud800") & set(out)
    assert json.loads(out)["attributes"]["size"]["value"] == f"größe{UNSAFE}"


def test_errors_cannot_steer_the_terminal(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise console.CommandError(f"name{UNSAFE}")

    monkeypatch.setattr(quorum, "ask", fail, raising=False)
    code, _, err = run("ask", "a shirt")
    assert (code, err) == (1, "error: name[2J31m\n")


def test_a_server_by_its_url_needs_no_deploy_yaml(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "deploy.yaml").unlink()
    server = ("--url", "127.0.0.1:9")
    code, _, err = run("ask", "a shirt", *server)
    assert code == 1
    assert "name them with --attributes a,b, as no deploy.yaml here says what 127.0.0.1:9 knows" in err
    code, _, err = run("ask", "a shirt", *server, "--attributes", "color", "--timeout", "1")
    assert code == 1
    assert "no connection to 127.0.0.1:9" in err
    assert "No such file" in run("ask", "a shirt", "--attributes", "color")[2]
    assert "none.yaml" in run("ask", "a shirt", *server, "--deploy", "none.yaml")[2]
    found = Extraction("id", (Answer("size", None, 0.0, (), DecisionStatus.NO_QUORUM),), 1, 0.01)
    monkeypatch.setattr(quorum, "ask", lambda *_, **__: found, raising=False)
    code, out, err = run("ask", "a shirt", *server, "--attributes", "size")
    assert code == 0, err
    assert "(no quorum)" in out
    assert "no quorum: size is withheld\n" in err


@pytest.mark.parametrize(
    ("option", "tls"),
    [((), False), (("--tls",), True), (("--ca", "ca.pem"), Tls(Path("ca.pem")))],
    ids=["plain", "tls", "ca"],
)
def test_a_gateway_can_be_asked_over_tls(
    run: Any, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], tls: bool | Tls
) -> None:
    given = {}

    def ask(*_: Any, **more: Any) -> Extraction:
        given.update(more)
        raise Unauthenticated("wrong key")

    monkeypatch.setattr(quorum, "ask", ask, raising=False)
    code, _, err = run("ask", "a shirt", "--url", "localhost:1", *option)
    assert (code, given["tls"]) == (1, tls)
    assert err == "error: wrong key; commands take it from QUORUM_INFERENCE_KEY\n"

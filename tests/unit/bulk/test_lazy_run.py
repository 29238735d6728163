# SPDX-License-Identifier: Apache-2.0
"""``--lazy``: which channel is asked, what is said of its votes, and a deployment without lazy channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment
from typer.testing import CliRunner

import quorum
from quorum.bulk import run as job_run
from quorum.cli import app
from quorum_client import Answer, AsyncClient, Client, Extraction, InvalidRequest, Spent, Status, Vote
from quorum_contract import LAZY, LAZY_CANARY


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Channels whose readiness was asked, and for each listing whether it is asked lazily."""
    found: list[Any] = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("sku,title\ns,shoe\n", "utf-8")
    votes = (Vote("alpha", "red", Status.ANSWERED), Vote("beta", None, Status.NOT_ASKED))
    answers = (Answer("color", "red", 0.5, votes),)

    async def extract(_: AsyncClient, text: str, *__: Any, lazy: bool = False, **___: Any) -> Extraction:
        found.append(lazy)
        return Extraction("id", answers, 1, 0.01, LAZY, usage={"alpha": Spent(1), "beta": Spent()})

    def extract_now(_: Client, text: str, *__: Any, lazy: bool = False, **___: Any) -> Extraction:
        found.append(lazy)
        return Extraction("id", answers, 1, 0.01, LAZY)

    def is_ready(client: Client) -> bool:
        found.append(client._connection.channel)
        return True

    monkeypatch.setattr(AsyncClient, "extract", extract)
    monkeypatch.setattr(Client, "extract", extract_now)
    monkeypatch.setattr(Client, "is_ready", is_ready)
    monkeypatch.setattr(job_run, "served_version", lambda _, __, channel, ___: found.append(channel) or 1)
    return found


def deployment(folder: Path, **more: Any) -> quorum.Deployment:
    return quorum.load_deployment(write_deployment(folder, {"alpha": {}, "beta": {}}, **more))


def extract(*more: str) -> Any:
    return CliRunner().invoke(app, ["extract", "in.csv", "--attributes", "color", "--out", "o.csv", *more])


def test_a_lazy_run_asks_the_lazy_channel_and_counts_what_was_not_asked(
    tmp_path: Path, asked: list[Any]
) -> None:
    deployment(tmp_path, lazy={})
    result = extract("--lazy", "--votes", "votes.jsonl.new.jsonl")
    assert result.exit_code == 0, result.output
    assert asked == [LAZY, True]
    assert "lazy: spared 1 of 2 questions" in result.stderr
    assert "no vote" not in result.stderr
    assert "learn weights from votes without --lazy" in result.stderr
    again = extract("--lazy", "--channel", "quorum_canary", "--job", "other", "--force")
    assert again.exit_code == 0
    assert asked[2:] == [LAZY_CANARY, True]
    assert "learn weights" not in again.stderr


def test_a_dry_run_asks_the_lazy_channel(tmp_path: Path, asked: list[Any]) -> None:
    deployment(tmp_path, lazy={})
    result = extract("--lazy", "--dry-run")
    assert result.exit_code == 0, result.output
    assert asked == [LAZY, True]
    assert "about 1 calls" in result.output, "as the answers said"
    assert "each member is counted" not in result.output


def test_a_dry_run_without_a_server_says_that_lazy_answers_ask_fewer(
    tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "is_ready", lambda _: False)
    deployment(tmp_path, lazy={})
    result = extract("--lazy", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "each member is counted as asked" in result.output


def test_one_question_can_be_asked_lazily(tmp_path: Path, asked: list[Any]) -> None:
    deployment(tmp_path, lazy={})
    result = CliRunner().invoke(app, ["ask", "a shoe", "--attributes", "color", "--lazy"])
    assert result.exit_code == 0, result.output
    assert "(not asked)" in result.stdout
    assert asked == [True]


def test_without_the_section_a_lazy_run_says_what_to_add(tmp_path: Path, asked: list[Any]) -> None:
    spec = deployment(tmp_path)
    with pytest.raises(InvalidRequest, match=r"deploy\.yaml has no section `lazy`; add"):
        quorum.ask(spec, "a shoe", ["color"], lazy=True)
    for more in ((), ("--dry-run",)):
        result = extract("--lazy", *more)
        assert result.exit_code != 0
        assert "has no section `lazy`" in result.stderr
    assert asked == []
    assert not Path("o.csv").exists()

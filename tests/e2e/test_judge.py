# SPDX-License-Identifier: Apache-2.0
"""``quorum judge`` against a real server: hostile keyphrases, kills, restarts, and what is left out."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import quorum_json, start
from support.deployment import write_deployment, write_jsonl
from support.supervised import Supervised, supervised, until

import quorum
from quorum.bulk.judging.journal import JudgeError, path_of
from quorum.bulk.judging.pairs import PairsError
from quorum.retrieval.judged_files import read_judged
from quorum.votes import read_votes
from quorum_client import AsyncClient, Extraction, InvalidRequest

pytestmark = pytest.mark.e2e

VALUES = ["0", "1", "2", "3"]
HOSTILE = ("a \"b\" 'c'", "x {name} {0} %s \\d", '}]}, "brand": "3"', "größe № 👟", "k" * 128, "Shoe", "shoe")
ITEMS, KEYPHRASES = 60, 4
ASKED = {
    "question": "Would a buyer who searches for {name!r} want it?",
    "values": VALUES,
    "synonyms": {"top": "3"},
}
MEMBERS: dict[str, Any] = {
    "alpha": {"options": {"latency_ms": 25, "latency_shape": "constant"}},
    "beta": {},
    "gamma": {},
}
PAIRS = [(f"item {n}", f"text of {n}", f"keyphrase {k}") for n in range(ITEMS) for k in range(KEYPHRASES)]
SPECIAL = [("hard", "a hard one", name) for name in HOSTILE]


def said(member: int, item: str, keyphrase: str) -> str:
    """A member's grade of a pair; now and then one of its own."""
    number = len(item) * 7 + sum(map(ord, item + keyphrase))
    return VALUES[(number + (number % (5 + member) == 0)) % 4]


def recorded(item: str, text: str, keyphrase: str) -> dict[str, Any]:
    votes: dict[str, str | None] = {m: said(n, item, keyphrase) for n, m in enumerate(MEMBERS)}
    if keyphrase == "keyphrase 3" and item.endswith("7"):
        # Two members must have answered.
        votes |= {"alpha": None, "beta": None}
    return {"product": item, "title": text, "attribute": keyphrase, "votes": votes}


def rows(pairs: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    return [{"item": item, "text": text, "keyphrase": keyphrase} for item, text, keyphrase in pairs]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    folder = tmp_path_factory.mktemp("judge")
    votes = [recorded(*pair) for pair in (*PAIRS, *SPECIAL)]
    write_deployment(
        folder, MEMBERS, rows=votes, attributes={"brand": {}}, default=ASKED, vote={"min_members": 2}
    )
    write_jsonl(folder / "pairs.jsonl", rows(PAIRS))
    with supervised(folder) as up:
        yield up


def judge(served: Supervised, pairs: str, out: str | None = None, **options: Any) -> dict[str, Any]:
    """Judge in this process; the report as ``--json`` prints it."""
    target = None if out is None else served.folder / out
    found = quorum.judge(served.spec, served.folder / pairs, quorum.JudgeOptions(out=target, **options))
    return found.to_json()


@pytest.fixture(scope="module")
def whole(served: Supervised) -> dict[str, Any]:
    """The report of a run that nothing disturbed."""
    return judge(served, "pairs.jsonl", "whole.jsonl", votes=served.folder / "whole-votes.jsonl")


def test_a_run_writes_labels_votes_and_what_is_left_out(served: Supervised, whole: dict[str, Any]) -> None:
    lone = sum(item.endswith("7") for item, _, keyphrase in PAIRS if keyphrase == "keyphrase 3")
    assert whole["ended"] == "complete"
    assert whole["left_out"] == {"NO_QUORUM": lone}
    assert (whole["judged"], whole["asked"], whole["left"]) == (len(PAIRS) - lone, len(PAIRS), 0)
    assert whole["by_votes"] == whole["judged"]
    requests = len({item for item, _, _ in PAIRS}) * -(-KEYPHRASES // 16)
    assert (whole["spent"]["calls"], whole["spent"]["cost"]) == (3 * requests, None)
    found = read_judged(served.folder / "whole.jsonl")
    assert found.provenance["weights"]["version"] == 1
    assert found.provenance["weights"]["hash"].startswith("sha256:")
    assert found.provenance["question"]["grades"] == {"0": 0.0, "1": 1 / 3, "2": 2 / 3, "3": 1.0}
    assert found.provenance["members"] == list(MEMBERS)
    pairs = list(zip(found.item_of, found.keyphrase_of, found.labels, found.disagreements, strict=True))
    for item, keyphrase, label, disagreement in pairs:
        # Equal weights: the label is the mean of the grades that the members named.
        grades = [int(said(n, found.items[item], found.keyphrases[keyphrase])) / 3 for n in range(3)]
        assert label == pytest.approx(sum(grades) / 3, abs=1e-6)
        assert disagreement == pytest.approx(1 - max(map(grades.count, grades)) / 3)
    left = [json.loads(line) for line in (served.folder / "whole.jsonl.left-out.jsonl").open()]
    assert [PAIRS[one["line"] - 1][0] for one in left] == [one["item"] for one in left]
    votes = read_votes(served.folder / "whole-votes.jsonl")
    assert [(cell.product, cell.title, cell.attribute) for cell in votes.cells] == PAIRS
    calls = [sum(spent.calls for spent in cell.usage if spent) for cell in votes.cells]
    assert calls == pytest.approx([3 / KEYPHRASES] * len(PAIRS))
    assert {cell.origin.channel for cell in votes.cells if cell.origin} == {"quorum"}
    assert not path_of(served.folder / "whole.jsonl").exists()
    # A run that was killed before it removed its journal is complete; the output is never overwritten.
    header = {"kind": "quorum.judging", "schema_version": 1, "of": found.provenance["run"]}
    path_of(served.folder / "whole.jsonl").write_text(json.dumps(header) + "\n")
    again = judge(served, "pairs.jsonl", "whole.jsonl", votes=served.folder / "whole-votes.jsonl")
    assert again == {name: value for name, value in whole.items() if name != "estimate"} | {"asked": 0}
    assert not path_of(served.folder / "whole.jsonl").exists()
    with pytest.raises(JudgeError, match="exists already"):
        judge(served, "pairs.jsonl", "whole.jsonl")


def test_hostile_keyphrases_are_data(served: Supervised) -> None:
    bad = [{"keyphrase": "k" * 129}, {"keyphrase": "nul\x00"}, {"keyphrase": "brand"}, {"text": ""}]
    given = rows(SPECIAL) + [{**rows(SPECIAL)[0], **change} for change in bad]
    given[0]["keyphrase"] = given[0]["keyphrase"].replace(" ", "\n")
    given.append({"item": "new", "text": "no member knows it", "keyphrase": "shoe"})
    write_jsonl(served.folder / "hostile.jsonl", given)
    with pytest.raises(PairsError) as caught:
        judge(served, "hostile.jsonl", "hostile.parquet")
    assert "hostile.jsonl:8: keyphrase: 129 bytes of UTF-8, the limit is 128" in str(caught.value)
    assert "hostile.jsonl:9: holds a NUL character; remove it" in str(caught.value)
    assert not path_of(served.folder / "hostile.parquet").exists()
    report = judge(served, "hostile.jsonl", "hostile.parquet", max_bad=4, per_request=64)
    assert report["left_out"] == {"NO_ANSWER": 1, "BROKEN": 4}
    found = read_judged(served.folder / "hostile.parquet")
    assert found.keyphrases == HOSTILE
    for keyphrase, label in zip(HOSTILE, found.labels, strict=True):
        assert label == pytest.approx(sum(int(said(n, "hard", keyphrase)) for n in range(3)) / 9, abs=1e-6)
    left = [json.loads(line) for line in (served.folder / "hostile.parquet.left-out.jsonl").open()]
    assert [one["line"] for one in left] == [8, 9, 10, 11, 12]


def test_a_refused_pair_costs_no_other_its_label(served: Supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = AsyncClient.extract

    async def refusing(self: AsyncClient, text: str, attributes: list[str], **more: Any) -> Extraction:
        if "Shoe" in attributes:
            raise InvalidRequest("ATTRIBUTES: one of them is refused")
        return await ask(self, text, attributes, **more)

    monkeypatch.setattr(AsyncClient, "extract", refusing)
    write_jsonl(served.folder / "refused.jsonl", rows(SPECIAL))
    report = judge(served, "refused.jsonl", "refused.parquet", per_request=64)
    assert report["left_out"] == {"INVALID_REQUEST": 1}
    assert {*read_judged(served.folder / "refused.parquet").keyphrases} == {*HOSTILE} - {"Shoe"}


def test_a_dry_run_writes_nothing(served: Supervised) -> None:
    before = {path.name for path in served.folder.iterdir()}
    report = judge(served, "pairs.jsonl", dry_run=True, per_request=2)
    expected = report["estimate"]
    assert (report["ended"], expected["pairs"], expected["requests"]) == ("dry_run", 240, 120)
    assert 0 < expected["seconds"]["low"] <= expected["seconds"]["middle"] <= expected["seconds"]["high"]
    assert {path.name for path in served.folder.iterdir()} == before


def test_a_killed_run_goes_on_where_it_was(served: Supervised, whole: dict[str, Any]) -> None:
    out, changed = served.folder / "killed.jsonl", served.folder / "changed.jsonl"
    command = ("judge", "pairs.jsonl", "--out", "killed.jsonl", "--votes", "killed-votes.jsonl")
    process = start(served.folder, *command, "--concurrency", "2", "--per-request", "3")
    until(lambda: path_of(out).exists() and lines_in(path_of(out)) >= 30)
    process.kill()
    process.communicate()
    kept = lines_in(path_of(out))
    assert 30 <= kept < len(PAIRS)
    assert not out.exists()
    # Neither another input nor other weights go on with it.
    (served.folder / "other.jsonl").write_text((served.folder / "pairs.jsonl").read_text() + "\n")
    with pytest.raises(JudgeError, match="run with another input"):
        judge(served, "other.jsonl", "killed.jsonl")
    seven = path_of(out).read_text().replace('"version":1', '"version":7', 1)
    path_of(changed).write_text(seven)
    with pytest.raises(JudgeError, match=r"weights version 1 .*Promote that version again"):
        judge(served, "pairs.jsonl", "changed.jsonl")
    assert path_of(changed).read_text() == seven
    report = quorum_json(served.folder, *command)
    assert report["asked"] == len(PAIRS) - kept
    assert report["judged"] == whole["judged"]
    assert out.read_text().splitlines()[1:] == whole_lines(served)
    ours, theirs = (read_votes(served.folder / f"{name}-votes.jsonl") for name in ("killed", "whole"))
    assert ours.data_hash() == theirs.data_hash()


def test_a_run_outlives_its_server(served: Supervised, whole: dict[str, Any]) -> None:
    out = served.folder / "struck.jsonl"
    options = ("--concurrency", "4", "--per-request", "3", "--json")
    process = start(served.folder, "judge", "pairs.jsonl", "--out", "struck.jsonl", *options)
    until(lambda: path_of(out).exists() and lines_in(path_of(out)) >= 30)
    served.strike("server", signal.SIGKILL)
    printed, err = process.communicate(timeout=100)
    report = json.loads(printed)
    assert report["ended"] == "complete", err
    assert report["judged"] == whole["judged"]
    assert out.read_text().splitlines()[1:] == whole_lines(served)


def whole_lines(served: Supervised) -> list[str]:
    """The pairs of the run that nothing disturbed."""
    return (served.folder / "whole.jsonl").read_text().splitlines()[1:]


def lines_in(journal: Path) -> int:
    """Pairs with an outcome in a journal."""
    whole = journal.read_bytes().split(b"\n")[:-1]
    return sum(len(json.loads(line).get("cells", ())) for line in whole)

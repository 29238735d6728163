# SPDX-License-Identifier: Apache-2.0
"""`quorum canary report --retriever` on a real server: the `default` question decides what differs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import quorum as command
from support.deployment import Live, running, write_deployment, write_jsonl
from support.retrievers import WORDS, Encoder, publish_by_hand, version_folder, write_version

import quorum
from quorum.bulk.judging.journal import JudgeError
from quorum.bulk.listings import ListingsError
from quorum.deployment import load_deployment
from quorum.evaluation.retriever_canary import RetrieverReport
from quorum.operations.canary import CanaryReportError
from quorum.operations.canary_retriever import RetrieverCanaryOptions, retriever_canary_report
from quorum.retrieval.judged import JudgedError
from quorum.retrieval.judged_files import read_judged
from quorum_client import AsyncClient, Extraction, ServerError
from quorum_contract import BULK

pytestmark = pytest.mark.skipif(not find_spec("onnx"), reason="needs onnx: run `make setup-tune`")

KEYPHRASES: dict[str, list[str]] = {f"{a} {b}": [] for a in WORDS for b in WORDS if a < b}
K = 10
ENCODERS = {version: Encoder(version) for version in (1, 2)}
ITEMS = [f"{first} {second} for men" for first in WORDS[:4] for second in WORDS[12:16]]
ASKED = {"question": "Would a buyer who searches for {name} want it?", "values": ["0", "1", "2", "3"]}


def best(version: int, text: str) -> set[str]:
    """What a version recommends, reckoned without it."""
    scores = ENCODERS[version].keyphrases([*KEYPHRASES]) @ ENCODERS[version].items([text])[0]
    return {[*KEYPHRASES][row] for row in np.argsort(-scores, kind="stable")[:K]}


@cache
def only() -> dict[tuple[int, str], set[str]]:
    """What one version alone recommends for an item."""
    found = {(version, text): best(version, text) for version in ENCODERS for text in ITEMS}
    return {(version, text): own - found[3 - version, text] for (version, text), own in found.items()}


def disputed() -> int:
    """Keyphrases that one version alone recommends."""
    return sum(map(len, only().values()))


def judgements() -> list[dict[str, object]]:
    """Recorded votes: what only version 2 recommends is right, if not to each member alike."""
    return [
        {"product": f"{text} {keyphrase}", "title": text, "attribute": keyphrase, "votes": votes}
        for (version, text), keyphrases in only().items()
        for keyphrase in sorted(keyphrases)
        for votes in [{"alpha": "0", "beta": "0"} if version == 1 else {"alpha": "3", "beta": "2"}]
    ]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A deployment with a `default` question; version 2 of the retriever is the canary."""
    members: dict[str, Any] = {"alpha": {}, "beta": {}}
    path = write_deployment(
        tmp_path_factory.mktemp("canary"), members, rows=judgements(), attributes={"brand": {}}, default=ASKED
    )
    spec = load_deployment(path)
    for version, encoder in ENCODERS.items():
        write_version(version_folder(spec, version), KEYPHRASES, encoder)
    publish_by_hand(spec, [1, 2], 1, 2)
    write_jsonl(spec.root / "items.jsonl", [{"id": f"i{n}", "title": text} for n, text in enumerate(ITEMS)])
    with running(path) as live:
        yield live


def report(live: Live, items: Path | None = None, **more: Any) -> RetrieverReport:
    options = RetrieverCanaryOptions(items=items or live.spec.root / "items.jsonl", url=live.url, **more)
    return retriever_canary_report(live.spec, options)


def test_it_judges_as_quorum_judge_does(live: Live) -> None:
    folder = live.spec.root
    out, same = folder / "judged.parquet", folder / "same.parquet"
    found = report(live, judged=out)
    # Members of equal weight: the mean of their grades, 1 and 2/3.
    assert found.only_canary == pytest.approx(5 / 6, abs=1e-6)
    assert found.only_stable == pytest.approx(0, abs=1e-6)
    assert found.difference.value == pytest.approx(disputed() / 2 * 5 / 6 / K / len(ITEMS), abs=1e-6)
    assert (found.verdict, found.judged, found.disputed) == ("better", disputed(), disputed())
    ours = read_judged(out)
    assert ours.provenance["retriever_versions"] == [1, 2]
    pairs = [
        {"item": ours.items[item], "text": ours.texts[item], "keyphrase": ours.keyphrases[keyphrase]}
        for item, keyphrase in zip(ours.item_of, ours.keyphrase_of, strict=True)
    ]
    source = write_jsonl(folder / "pairs.jsonl", pairs)
    quorum.judge(live.spec, source, quorum.JudgeOptions(out=same, url=live.url))
    theirs = read_judged(same)
    assert (theirs.items, theirs.keyphrases) == (ours.items, ours.keyphrases)
    assert theirs.labels.tolist() == ours.labels.tolist()
    assert theirs.disagreements.tolist() == ours.disagreements.tolist()
    for name in ("question", "weights", "members"):
        assert theirs.provenance[name] == ours.provenance[name]
    with pytest.raises(JudgedError, match=r"judged\.parquet: exists already; name another file"):
        report(live, judged=out)
    _, said = command(folder, "canary", "report", "items.jsonl", "--retriever", "--url", live.url)
    assert "precision@10 of version 2 less that of version 1: +" in said


def test_a_question_that_fails_costs_no_other_its_judgement(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, seen, priorities = AsyncClient.extract, dict[str, int](), set[object]()

    async def failing(self: AsyncClient, text: str, attributes: list[str], **more: Any) -> Extraction:
        seen[text] = seen.get(text, 0) + 1
        priorities.add(more["priority"])
        if text == ITEMS[0] or (text == ITEMS[1] and seen[text] == 1):
            raise ServerError("out of memory", status="INTERNAL")
        return await ask(self, text, attributes, **more)

    monkeypatch.setattr(AsyncClient, "extract", failing)
    notes: list[str] = []
    options = RetrieverCanaryOptions(items=live.spec.root / "items.jsonl", url=live.url)
    found = retriever_canary_report(live.spec, options, note=notes.append)
    lost = len(only()[1, ITEMS[0]] | only()[2, ITEMS[0]])
    assert lost
    assert found.judged == disputed() - lost
    assert f"{lost} of {disputed()} keyphrases were not judged: out of memory" in notes
    assert priorities == {BULK}


def test_a_report_of_nothing_is_refused(live: Live, tmp_path: Path) -> None:
    unknown = write_jsonl(tmp_path / "unknown.jsonl", [{"id": "u", "title": "red leather lamp for cats"}])
    with pytest.raises(CanaryReportError, match=r"none of the \d+ keyphrases .* was judged \(NO_ANSWER\)"):
        report(live, unknown)
    blank = write_jsonl(tmp_path / "blank.jsonl", [{"id": "u", "title": " "}])
    with pytest.raises(CanaryReportError, match=r"none of 1 items .*TEXT: empty; .*see with `quorum status`"):
        report(live, blank)


def test_what_cannot_be_compared_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    members: dict[str, Any] = {"alpha": {}}
    plain = load_deployment(write_deployment(tmp_path / "plain", members))
    items = write_jsonl(tmp_path / "twice.jsonl", [{"id": "u", "title": text} for text in ITEMS[:2]])
    with pytest.raises(JudgeError, match="no `default` question to ask of keyphrases; add `default:`"):
        retriever_canary_report(plain, RetrieverCanaryOptions(items=items))
    spec = load_deployment(write_deployment(tmp_path / "asked", members, default=ASKED))
    for version in (1, 2):
        write_version(version_folder(spec, version), KEYPHRASES, ENCODERS[version])
    publish_by_hand(spec, [1, 2], 1, 2)
    with pytest.raises(
        ListingsError, match=r"row 2: id 'u' is that of .*row 1 too; keep one row for each id"
    ):
        retriever_canary_report(spec, RetrieverCanaryOptions(items=items))
    with pytest.raises(JudgedError, match=r"\.csv: judged pairs are written to \.parquet or \.jsonl"):
        retriever_canary_report(spec, RetrieverCanaryOptions(items=items, judged=tmp_path / "j.csv"))
    publish_by_hand(spec, [1, 2], 1, 1)
    with pytest.raises(CanaryReportError, match="there is no canary; begin one with `quorum canary N --retr"):
        retriever_canary_report(spec, RetrieverCanaryOptions(items=items))

# SPDX-License-Identifier: Apache-2.0
"""How a job is divided over the nodes of a cluster, and what nodes leave behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.bulk_jobs import Job, answer, listing, scan_of

from quorum.bulk.ledger import Entry, NewWeights, StorageFailed
from quorum.bulk.node_journal import NodeJournal, drop_journals, node_entries, parts_left, take_over
from quorum.bulk.node_work import NodeLedger, NodeSettings, OpenPart, shares
from quorum.bulk.options import ExtractOptions


def failed(row: int) -> Entry:
    return Entry(row, f"p{row}", error=("DEADLINE_EXCEEDED", "too late"))


@pytest.mark.parametrize(
    ("parts", "nodes", "sizes"),
    [
        (0, 2, []),
        (1, 2, [1]),
        (9, 2, [1] * 9),
        (16, 2, [2] * 8),
        (33, 2, [4] * 8 + [1]),
        (1000, 3, [4] * 250),
    ],
)
def test_every_part_is_in_one_share_and_every_node_gets_some(
    parts: int, nodes: int, sizes: list[int]
) -> None:
    whole = [OpenPart(number) for number in range(parts)]
    divided = shares(whole, nodes)
    assert [len(share) for share in divided] == sizes
    assert [part for share in divided for part in share] == whole


def test_a_journal_is_read_back_up_to_what_a_kill_left_of_its_last_line(tmp_path: Path) -> None:
    with NodeJournal(tmp_path, 7) as journal:
        for row in (70, 71):
            journal.append(failed(row))
    # Of another node, which was killed while it wrote.
    with NodeJournal(tmp_path, 7) as journal:
        journal.append(failed(72))
    half = failed(73).to_line()[:-9]
    (newest,) = (path for path in (tmp_path / "nodes").iterdir() if b'"row":72' in path.read_bytes())
    newest.write_bytes(newest.read_bytes() + half)
    with NodeJournal(tmp_path, 8) as journal:
        journal.append(failed(80))
    assert sorted(node_entries(tmp_path, 7), key=lambda entry: entry.row) == [failed(n) for n in (70, 71, 72)]
    drop_journals(tmp_path, 7)
    assert list(node_entries(tmp_path, 7)) == []
    assert [entry.row for entry in node_entries(tmp_path, 8)] == [80]


def test_an_outcome_can_be_read_before_the_journal_is_closed(tmp_path: Path) -> None:
    with NodeJournal(tmp_path, 0) as journal:
        journal.append(failed(1))
        assert [entry.row for entry in node_entries(tmp_path, 0)] == [1]


def test_a_job_without_nodes_has_no_journals(tmp_path: Path) -> None:
    assert list(node_entries(tmp_path, 0)) == []
    drop_journals(tmp_path, 0)


def test_answers_of_other_weights_that_a_node_left_cost_none_of_the_right_ones(tmp_path: Path) -> None:
    job = Job(tmp_path / "work", rows=(6,))
    with job.begin() as ledger:
        ledger.append(0, Entry(0, "s-0", answer(0, version=3)))
        with NodeJournal(job.path, 0) as journal:
            for row, version in ((1, 3), (2, 4), (3, 3), (4, 4), (5, 3)):
                journal.append(Entry(row, f"s-{row}", answer(row, version)))
        take_over(job.path, ledger, job.notes.append)
        (pending,) = ledger.pending()
        assert sorted(pending.entries) == [0, 1, 3, 5]
    assert parts_left(job.path) == set()
    (said,) = job.notes
    assert said.startswith("part 0: answers that nodes have left are asked again (2): version 4")


def test_journals_of_parts_that_are_committed_are_removed(tmp_path: Path) -> None:
    """Their driver was killed between the two."""
    job = Job(tmp_path / "work", rows=(2, 2))
    with job.begin() as ledger:
        for row in (0, 1):
            ledger.append(0, Entry(row, f"s-{row}", answer(row)))
        ledger.commit(0, [(row, listing(row)) for row in (0, 1)])
        with NodeJournal(job.path, 0) as journal:
            journal.append(Entry(0, "s-0", answer(0)))
        take_over(job.path, ledger, job.notes.append)
        assert parts_left(job.path) == set()
        assert ledger.counts.tally.answered == 2


def test_a_journal_that_cannot_be_synced_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = NodeJournal(tmp_path, 0)

    def fail(_: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(StorageFailed), journal:
        journal.append(failed(0))
        patch.setattr(os, "fsync", fail)
    assert journal._file.closed


def settings_of(folder: Path, version: int | None, **options: Any) -> NodeSettings:
    asked = ExtractOptions(out=folder / "out.csv", **options)
    scan = scan_of(6, 6)
    return NodeSettings(
        folder,
        scan,
        lambda row: listing(row.index),
        ("color", "size"),
        asked,
        "127.0.0.1:9",
        version,
        ("a", "b"),
    )


def test_a_node_keeps_no_answer_of_other_weights(tmp_path: Path) -> None:
    ledger = NodeLedger(settings_of(tmp_path, 3), [OpenPart(0)])
    list(ledger.pending())
    ledger.append(0, Entry(0, "s-0", answer(0, version=3)))
    with pytest.raises(NewWeights, match="version 4 of the weights answers"):
        ledger.append(0, Entry(1, "s-1", answer(1, version=4)))
    # Of a channel that nothing is known of, the first answer counts.
    ledger.append(0, Entry(2, "s-2", answer(2, version=7, channel="canary")))
    with pytest.raises(NewWeights, match="version 8"):
        ledger.append(0, Entry(3, "s-3", answer(3, version=8, channel="canary")))
    ledger.close()
    assert [entry.row for entry in node_entries(tmp_path, 0)] == [0, 2]


def test_a_node_takes_every_version_that_the_job_has_seen_or_accepts(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text('{"quorum":[3,4]}')
    seen = NodeLedger(settings_of(tmp_path, 4), [OpenPart(0)])
    accepting = NodeLedger(settings_of(tmp_path, 4, accept_new_weights=True), [OpenPart(1)])
    for ledger, part, version in ((seen, 0, 3), (seen, 0, 4), (accepting, 1, 5)):
        list(ledger.pending())
        ledger.append(part, Entry(6 * part, f"s-{6 * part}", answer(6 * part, version)))
    seen.close()
    accepting.close()

# SPDX-License-Identifier: Apache-2.0
"""The work of the nodes of a cluster, and its driver, on a real server; ``test_bulk_ray`` has Ray itself."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.deployment import Live, title

import quorum
from quorum.bulk import ray_engine
from quorum.bulk.job_input import column_names, find_input, listings_by
from quorum.bulk.node_journal import node_entries, parts_left
from quorum.bulk.node_work import NodeReport, NodeSettings, OpenPart, work

ROWS, PART_ROWS = 60, 10


def write_input(folder: Path) -> Path:
    path = folder / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["product", "category", "title"])
        rows.writerows([f"r{n}", "shoes" if n % 2 else "", title(n % 24)] for n in range(ROWS))
    return path


def two_names(live: Live) -> str:
    """The server under two names, which a client takes for two servers."""
    port = live.url.rpartition(":")[2]
    return f"127.0.0.1:{port},localhost:{port}"


def options_of(folder: Path, live: Live, engine: str = "ray") -> quorum.ExtractOptions:
    return quorum.ExtractOptions(
        out=folder / "out.csv", part_rows=PART_ROWS, url=two_names(live), engine=engine, concurrency=8
    )


@pytest.fixture(scope="module")
def undisturbed(steady: Live, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The output of a job on one machine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    report = quorum.extract(steady.spec, write_input(folder), options_of(folder, steady, "local"))
    assert (report.ended, report.answered) == ("complete", ROWS)
    output = (folder / "out.csv").read_bytes()
    assert b"NO_ANSWER" not in output
    return output


class Rounds:
    """Hands shares out as Ray does, one after the other; what is named is lost with its worker.

    Attributes:
        handed_out: Numbers of the parts of each share, round by round.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lost: Sequence[int] = ()) -> None:
        self._lost = set(lost)
        self.handed_out: list[list[int]] = []
        monkeypatch.setattr(ray_engine, "_connected", lambda address: contextlib.nullcontext())
        monkeypatch.setattr(ray_engine, "_nodes", lambda ray: 2)
        monkeypatch.setattr(ray_engine, "_round", self)

    def __call__(
        self, ray: Any, settings: NodeSettings, work_: Sequence[tuple[OpenPart, ...]], nodes: int
    ) -> Iterator[NodeReport]:
        self.handed_out.append([part.number for share in work_ for part in share])
        for share in work_:
            # Nodes have another working folder than the driver.
            with contextlib.chdir("/"):
                report = work(settings, share)
            if share[0].number in self._lost:
                self._lost.remove(share[0].number)
            else:
                yield report


def test_a_node_asks_all_servers_and_leaves_each_row_once_in_its_journals(
    steady: Live, tmp_path: Path
) -> None:
    options, job = options_of(tmp_path, steady), tmp_path / "job"
    job.mkdir()
    names = column_names(steady.spec, ["brand"], options)
    found = find_input([str(write_input(tmp_path))], names, options, job, print, steady.spec.catalogue())
    listing_of, members = listings_by(found, steady.spec), tuple(steady.spec.member_names)
    settings = NodeSettings(job, found, listing_of, ("brand",), options, two_names(steady), 1, members)
    # Rows 0 to 4 are in the ledger.
    first = work(settings, [OpenPart(0, frozenset(range(5, 10))), OpenPart(3)])
    assert first == NodeReport(complete=(0, 3))
    entries = {number: list(node_entries(job, number)) for number in (0, 3)}
    assert sorted(entry.row for entry in entries[0]) == list(range(5, 10))
    assert sorted(entry.row for entry in entries[3]) == list(range(30, 40))
    assert all(entry.answer and entry.answer["brand"].value for entry in entries[0])
    # Another node gets the part of one that was killed as it reported: it has nothing to ask.
    assert work(settings, [OpenPart(3)]) == NodeReport(complete=(3,))
    assert len(list(node_entries(job, 3))) == PART_ROWS


def test_parts_that_are_lost_with_a_worker_are_handed_out_again(
    steady: Live, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(monkeypatch, lost=[1, 4])
    write_input(tmp_path)
    monkeypatch.chdir(tmp_path)
    report = quorum.extract(steady.spec, "in.csv", options_of(Path(), steady))
    assert (report.ended, report.answered, report.asked) == ("complete", ROWS, ROWS)
    assert rounds.handed_out == [[0, 1, 2, 3, 4, 5], [1, 4]]
    assert (tmp_path / "out.csv").read_bytes() == undisturbed
    assert parts_left(tmp_path / "out.csv.job") == set()


@pytest.mark.parametrize("engine", ["ray", "local"])
def test_what_nodes_have_found_is_not_asked_again_after_their_driver_was_killed(
    steady: Live, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    source = write_input(tmp_path)

    class Killed(BaseException):
        """Ends the driver where nothing is cleaned up."""

    def killed(
        ray: Any, settings: NodeSettings, work_: Sequence[tuple[OpenPart, ...]], nodes: int
    ) -> Iterator[NodeReport]:
        yield work(settings, work_[0])
        work(settings, work_[1])
        work(settings, work_[2])
        raise Killed

    Rounds(monkeypatch)
    monkeypatch.setattr(ray_engine, "_round", killed)
    with pytest.raises(Killed):
        quorum.extract(steady.spec, source, options_of(tmp_path, steady))
    assert parts_left(tmp_path / "out.csv.job") == {1, 2}
    Rounds(monkeypatch)
    report = quorum.extract(steady.spec, source, options_of(tmp_path, steady, engine))
    assert (report.ended, report.answered, report.asked) == ("complete", ROWS, ROWS - 3 * PART_ROWS)
    assert (tmp_path / "out.csv").read_bytes() == undisturbed
    assert parts_left(tmp_path / "out.csv.job") == set()


def test_a_round_that_completes_no_part_ends_the_run(
    steady: Live, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Rounds(monkeypatch, lost=range(6))
    with pytest.raises(ray_engine.RayRunError, match="run the same command again"):
        quorum.extract(steady.spec, write_input(tmp_path), options_of(tmp_path, steady))
    # The answers are there, so that the next run asks nothing.
    report = quorum.extract(steady.spec, tmp_path / "in.csv", options_of(tmp_path, steady))
    assert (report.ended, report.asked) == ("complete", 0)
    assert (tmp_path / "out.csv").read_bytes() == undisturbed


def cut_off(settings: NodeSettings) -> NodeSettings:
    """Settings of a node that does not reach the servers."""
    options = quorum.ExtractOptions(patience_s=0.05, url="127.0.0.1:9", concurrency=8)
    return replace(settings, options=options, url="127.0.0.1:9")


@pytest.mark.parametrize("patience_s", [0.05, 60])
def test_one_node_that_does_not_reach_the_servers_does_not_end_the_job(
    steady: Live, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    rounds = Rounds(monkeypatch)

    def one_away(
        ray: Any, settings: NodeSettings, work_: Sequence[tuple[OpenPart, ...]], nodes: int
    ) -> Iterator[NodeReport]:
        # It takes the first part of each round, until there is no other; the second one is asked.
        rounds.handed_out.append([part.number for share in work_ for part in share])
        if len(work_) > 1:
            yield work(cut_off(settings), work_[0])
        yield work(settings, work_[min(1, len(work_) - 1)])

    monkeypatch.setattr(ray_engine, "_round", one_away)
    options = replace(options_of(tmp_path, steady), patience_s=patience_s)
    report = quorum.extract(steady.spec, write_input(tmp_path), options)
    assert (report.ended, report.answered, report.asked) == ("complete", ROWS, ROWS)
    assert [len(parts) for parts in rounds.handed_out] == [6, 5, 4, 3, 2, 1]
    assert (tmp_path / "out.csv").read_bytes() == undisturbed


def test_servers_that_are_all_away_end_the_run_so_that_it_can_go_on(
    steady: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(monkeypatch)
    here = rounds.__call__

    def away(ray: Any, settings: NodeSettings, *shares: Any) -> Iterator[NodeReport]:
        # The weights were asked for before; then the servers went away.
        return here(ray, cut_off(settings), *shares)

    monkeypatch.setattr(ray_engine, "_round", away)
    options = quorum.ExtractOptions(
        out=tmp_path / "out.csv",
        part_rows=PART_ROWS,
        url=two_names(steady),
        engine="ray",
        patience_s=0.3,
    )
    report = quorum.extract(steady.spec, write_input(tmp_path), options)
    assert (report.ended, report.left) == ("unavailable", ROWS)
    assert report.last_error is not None


def test_without_ray_the_message_says_what_to_install(
    steady: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ray_engine.RayRunError, match=r"pip install 'quorum\[ray\]'"):
        quorum.extract(steady.spec, write_input(tmp_path), options_of(tmp_path, steady))

# SPDX-License-Identifier: Apache-2.0
"""Run a job on the nodes of a Ray cluster: Ray Data hands out the parts, the ledger says what is done.

The driver alone changes the ledger. Nodes write journals of their own (:mod:`quorum.bulk.node_journal`),
which it takes over part by part. What is lost with a node or a worker is missing in the ledger, and is handed
out again: by this run, or by the next one of the same command.
"""

from __future__ import annotations

import logging
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from quorum.bulk.callbacks import Note
from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.records import BadRow
from quorum.bulk.inputs.scan import Part
from quorum.bulk.job_input import SHOWN_BAD, check_refused, is_refused, refused_row
from quorum.bulk.ledger import Ledger
from quorum.bulk.listings import Listing
from quorum.bulk.node_journal import drop_journal, drop_journals, node_entries, parts_left, written_s_ago
from quorum.bulk.node_work import NodeReport, NodeSettings, NodeWorker, OpenPart, shares
from quorum.bulk.progress import OnProgress, Pace, progress_of
from quorum.bulk.spent import BudgetWatch
from quorum_contract.errors import QuorumError

_CPUS = 0.01


class RayRunError(QuorumError, RuntimeError):
    """A job cannot run on a cluster; the message says why, and what to do."""

    code = "RAY_RUN_FAILED"


class RayJob:
    """One run of a job on a cluster.

    Args:
        settings: Sent to every node.
        ledger: Of the job; only this run changes it.
        address: Of the cluster; None: the one that ``RAY_ADDRESS`` names, else a new one on this machine.
        note: Takes remarks.
        progress: Takes the state, after each part.

    Attributes:
        budgets: Notes when a member's budget is spent.
        asked: Rows that got their outcome in this run.
        reason: Why the servers were not available; None: they were.
    """

    def __init__(
        self,
        settings: NodeSettings,
        ledger: Ledger,
        address: str | None,
        note: Note,
        progress: OnProgress,
    ) -> None:
        self._settings, self._ledger, self._address = settings, ledger, address
        self._note, self._progress = note, progress
        # None stands for all rows: there may be millions.
        self._open: dict[int, tuple[Part, frozenset[int] | None]] = {}
        self._away = 0
        self._refused: list[BadRow] = []
        self._reader = PartReader(settings.scan)
        self._pace, self._committed_at = Pace(), time.monotonic()
        self.budgets = BudgetWatch(note)
        self.asked = 0
        self.reason: QuorumError | None = None

    def run(self) -> bool:
        """Ask until every row has an outcome; whether that is so, False: no server answered for too long.

        Raises:
            RayRunError: Ray is not installed, there is no cluster or no node, or no part gets done.
            QuorumError: What ended the work on a node, or is wrong with what it found.
        """
        retry_failed = self._settings.options.retry_failed
        for pending in self._ledger.pending(retry_failed):
            part, done = pending.part, pending.entries.keys()
            self._open[part.number] = part, _rows_of(part) - done if done else None
        self._show()
        with _connected(self._address) as ray, self._reader:
            while self._open:
                before, nodes = len(self._open), _nodes(ray)
                work = shares([OpenPart(n, left) for n, (_, left) in self._open.items()], nodes)
                waited = False
                for report in _round(ray, self._settings, work, nodes):
                    self._take(report)
                    waited |= report.reason is not None
                    # One node may have lost its way to the servers while the others go on.
                    if self._away >= min(nodes, max(2, len(work))):
                        self.reason = report.reason
                        for number in parts_left(self._settings.folder) & self._open.keys():
                            self._take_over(number)
                        return False
                if len(self._open) == before and not waited:
                    raise RayRunError(
                        f"no part was completed by {nodes} nodes: each worker ended before. What was"
                        " answered is kept. See the logs of Ray (`ray logs`), and run the same command again"
                    )
        return True

    def _take_over(self, number: int) -> None:
        """Put outcomes from the journals of nodes into the ledger."""
        part, rows = self._open[number]
        left = set(_rows_of(part) if rows is None else rows)
        for entry in node_entries(self._settings.folder, number):
            if entry.row not in left:
                continue
            self._ledger.append(number, entry)
            if is_refused(entry) and len(self._refused) < SHOWN_BAD:
                self._refused.append(refused_row(self._settings.scan, entry))
            left.remove(entry.row)
            self.asked += 1
            self._pace.add()
            if entry.answer is not None:
                self.budgets.add(entry.row + 1, entry.answer)
        self._open[number] = part, frozenset(left)

    def _take(self, report: NodeReport) -> None:
        """Commit the parts that a node has completed, and take over what it has of others."""
        if report.error is not None:
            raise report.error
        settings = self._settings
        for number in report.complete:
            if number not in self._open:
                # Two nodes had it, as one was thought dead.
                continue
            self._take_over(number)
            part, _ = self._open.pop(number)
            self._ledger.commit(number, list(self._listings(part)))
            drop_journals(settings.folder, number)
            self._committed_at = time.monotonic()
            refused = self._ledger.counts.tally.refused
            check_refused(settings.scan, settings.options, refused, self._refused)
        for number, journal in report.unfinished.items():
            if number in self._open:
                self._take_over(number)
            drop_journal(settings.folder, journal)
        self._show(waits=report.reason is not None)
        quiet_s = min(time.monotonic() - self._committed_at, written_s_ago(settings.folder))
        is_away = report.reason is not None and quiet_s >= settings.options.patience_s
        self._away = self._away + 1 if is_away else 0

    def _listings(self, part: Part) -> Iterator[tuple[int, Listing | BadRow]]:
        for row in self._reader.read(part):
            listing = row if isinstance(row, BadRow) else self._settings.listing_of(row)
            yield row.index, listing

    def _show(self, *, waits: bool = False) -> None:
        self._progress(progress_of(self._ledger.counts, self._pace, waits=waits))


def _rows_of(part: Part) -> frozenset[int]:
    return frozenset(range(part.first, part.first + part.rows))


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster; a new one ends with the block."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RayRunError(
            "`--engine ray` needs Ray, here and on every node: pip install 'quorum[ray]' where quorum is "
            "installed, else name its wheel (on PyPI another project is called quorum): "
            "pip install --find-links wheels 'wheels/quorum-VERSION-py3-none-any.whl[deploy,ray]'"
        ) from error
    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            logging.getLogger("ray.data").setLevel(logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RayRunError(
                f"no Ray cluster at {address or 'this machine'}: {error}; start one with `ray start --head`,"
                " and name it with --ray-address"
            ) from error
    try:
        # Ray prints what its nodes report, and standard output is the caller's.
        with redirect_stdout(sys.stderr):
            yield ray
    finally:
        if is_ours:
            ray.shutdown()


def _nodes(ray: Any) -> int:
    """Number of the nodes that work: alive, and with a CPU that Ray may use."""
    nodes: int = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    if not nodes:
        raise RayRunError("the Ray cluster has no node with a CPU; add one with `ray start --address ...`")
    return nodes


def _round(
    ray: Any, settings: NodeSettings, work: Sequence[tuple[OpenPart, ...]], nodes: int
) -> Iterator[NodeReport]:
    """Hand out parts to one worker per node, and yield what they report, as it comes.

    By Ray's count a worker takes next to no CPU, so that one whose node is killed starts again on another at
    once; with a whole CPU it waits until one is free, perhaps for ever. It keeps off nodes without CPUs, as
    the head may be. Parts that are lost all the same are left out, which is no error.
    """
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.scheduling_strategy = "SPREAD"
    items = [{"parts": pickle.dumps(parts)} for parts in work]
    reports = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        NodeWorker,
        fn_constructor_args=(settings,),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(nodes, len(items)), max_tasks_in_flight_per_actor=1),
        num_cpus=_CPUS,
    )
    # Not one ahead: a report is taken when it comes.
    for batch in reports.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        for report in batch["report"]:
            yield pickle.loads(report)  # noqa: S301

# SPDX-License-Identifier: Apache-2.0
"""Serve a deployment whose members are asked in rows, and compare its answers with those of all members."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quorum.bulk.ask import ask_all
from quorum.bulk.listings import Listing
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.deployment.lazy import LazySpec
from quorum.operations.learn import learn
from quorum.operations.learn_choice import LearnOptions
from quorum.votes import VotesWriter
from quorum_bench.targets import CallerSpec
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload
from quorum_client import Answer, AsyncClient, Extraction, Item, Spent, Status
from quorum_contract import LAZY, STABLE
from quorum_contract.usage import add_up

_CONCURRENCY = 8


class LazyTarget(QuorumTarget):
    """The lazy channel of a deployment.

    Args:
        workload: The requests.
        deploy: The deployment.
        name: In tables.
        lazy: Settings of the channel.
        weights: Makes the weights to answer by; None: equal ones.
    """

    def __init__(
        self,
        workload: Workload,
        deploy: Path,
        name: str,
        lazy: LazySpec,
        weights: Callable[[QuorumTarget], Weights] | None = None,
    ) -> None:
        super().__init__(workload, deploy=deploy, name=name, lazy=lazy)
        self._weights = weights

    def start(self) -> None:
        """Start the server, and promote the weights."""
        super().start()
        if self._weights:
            self.promote(self._weights(self))

    def caller(self, workload: Workload) -> CallerSpec:
        """Return a caller of the lazy channel."""
        return self.channel_caller(workload, LAZY)


def compared(target: QuorumTarget, workload: Workload) -> dict[str, Any]:
    """Ask both channels of a server about every product, and compare, see :func:`changed`."""
    full, lazy = (answered(target.url, channel, workload) for channel in (STABLE, LAZY))
    return changed(full, lazy)


def learned(target: QuorumTarget, listings: Sequence[Listing]) -> Weights:
    """Weights, and when to stop early, from the votes of all members about listings with gold."""
    deployment = target.deployment
    results = ask_all(target.url, STABLE, listings, list(deployment.attributes), _CONCURRENCY)
    with tempfile.TemporaryDirectory() as folder:
        votes, out = Path(folder, "votes.jsonl"), Path(folder, "weights.json")
        with VotesWriter(votes) as writer:
            sink = VotesSink(writer, deployment.catalogue())
            for listing, result in zip(listings, results, strict=True):
                sink.write(listing, result)
        learn(votes, deployment, LearnOptions(judge=False, lazy=True), out=out)
        return weights_file.load(out)


def answered(url: str, channel: str, workload: Workload) -> list[Extraction]:
    """Ask a channel about every product once."""
    items = [Item(product.text, product.attributes, product.category) for product in workload.products]

    async def run() -> list[Extraction]:
        async with AsyncClient(url, channel=channel, timeout_s=60.0) as client:
            results = client.extract_many(items, concurrency=_CONCURRENCY, errors="raise")
            return [result async for result in results if isinstance(result, Extraction)]

    return asyncio.run(run())


def changed(full: Sequence[Extraction], lazy: Sequence[Extraction]) -> dict[str, Any]:
    """Compare answers of the two channels about the same requests.

    Returns:
        Cells, those with equal values, those that differ where no member that was asked voted otherwise, and
        calls and tokens per answer of both, and the share of the votes that was asked for.
    """
    pairs = list(zip(_answers(full), _answers(lazy), strict=True))
    differ = [(whole, part) for whole, part in pairs if whole.value != part.value]
    votes = [vote for _, answer in pairs for vote in answer.votes]
    spent = {"full": _spent(full), "lazy": _spent(lazy)}
    return {
        "cells": len(pairs),
        "equal": len(pairs) - len(differ),
        "flips": sum(not _voted_otherwise(whole, part) for whole, part in differ),
        "asked": sum(vote.status is not Status.NOT_ASKED for vote in votes) / len(votes),
        "calls": {channel: took.calls / len(full) for channel, took in spent.items()},
        "prompt_tokens": {channel: (took.prompt_tokens or 0) / len(full) for channel, took in spent.items()},
        "answer_tokens": {channel: (took.answer_tokens or 0) / len(full) for channel, took in spent.items()},
    }


def _answers(results: Sequence[Extraction]) -> list[Answer]:
    return [answer for result in results for answer in result.answers]


def _spent(results: Sequence[Extraction]) -> Spent:
    return add_up(result.spent for result in results if result.spent)


def _voted_otherwise(full: Answer, lazy: Answer) -> bool:
    """Whether a member that was asked gave another value, or was not as sure of it."""
    pairs = zip(full.votes, lazy.votes, strict=True)
    return any(part.status is not Status.NOT_ASKED and part != whole for whole, part in pairs)

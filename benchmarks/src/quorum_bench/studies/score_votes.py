# SPDX-License-Identifier: Apache-2.0
"""Record votes with scores of a deployment's LLMs on listings that the demo generates, and judge them."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import decide
from quorum.decision.patterns import ABSTAIN
from quorum.decision.scores import NO_SCORE, levels_of
from quorum.decision.weights import Weights, equal_weights
from quorum.deployment import load_deployment
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.evaluation.score import as_rule
from quorum.learning import learn_statistic
from quorum.runtimes import create
from quorum.runtimes.base import Question, Reply, RuntimeSettings
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import Vote, abstain, parse_answer
from quorum.tasks.prompt import build_prompt
from quorum.votes import VotesTable, read_votes, write_votes
from quorum.votes.schema import Cell, known_scores
from quorum.votes.statistic import Statistic, count
from quorum.votes.table import CodedVotes, build_table
from quorum_contract import Status

PRODUCTS = 600
_IN_FLIGHT = 16
_DEADLINE_NS = 120_000_000_000
_DEMO = Path("examples/demo")

Flags = npt.NDArray[np.bool_]
Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Halves:
    """Votes to learn from, and those of other products to judge by.

    Attributes:
        name: Of the table.
        votes: All of them.
        first: (n,) which to learn from.
        counts: Number of possible answers of the attributes with a closed value set.
    """

    name: str
    votes: CodedVotes
    first: Flags
    counts: Counts

    @property
    def learn(self) -> CodedVotes:
        """The votes to learn from."""
        return _rows(self.votes, self.first)

    @property
    def judge(self) -> CodedVotes:
        """The votes to judge by."""
        return _rows(self.votes, ~self.first)


class _Texts(NamedTuple):
    """A generated listing: product, category, title, and the gold of each attribute."""

    product: str
    category: str
    title: str
    gold: Mapping[str, Sequence[str]]


def seed_tables(folder: Path | None, deploy: Path, seeds: int, products: int = PRODUCTS) -> list[Halves]:
    """Read the votes on the listings of each seed, after recording those that the folder lacks.

    Args:
        folder: Where ``seed-N.jsonl`` is kept; None: nowhere.
        deploy: ``deploy.yaml`` of the LLMs, in a checkout with the demo.
        seeds: Listings of the seeds 1 to this.
        products: Listings of each seed.

    Raises:
        ValueError: The demo's generator is not found, or no member gave a score.
    """
    deployment = load_deployment(deploy)
    counts = deployment.catalogue().value_counts()
    votes = seed_votes(folder, deployment, seeds, products)
    return [halved(name, table.coded(), counts) for name, table in votes]


def seed_votes(
    folder: Path | None, deployment: Deployment, seeds: int, products: int = PRODUCTS
) -> Iterator[tuple[str, VotesTable]]:
    """Yield the name and the votes of each seed; see :func:`seed_tables`."""
    for seed in range(1, seeds + 1):
        file = None if folder is None else folder / f"seed-{seed}.jsonl"
        yield f"seed {seed}", _kept(file, partial(record, deployment, seed, products))


def demo_votes(folder: Path | None, deployment: Deployment) -> VotesTable:
    """Read the votes on the demo's own held-out listings, or record them as :func:`seed_tables` does."""

    def record_own() -> VotesTable:
        lines = (deployment.root / _DEMO / "listings.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        texts = [_Texts(row["product"], row["category"], row["title"], row["gold"]) for row in rows]
        return _recorded(deployment, texts)

    return _kept(None if folder is None else folder / "listings.jsonl", record_own)


def _kept(file: Path | None, recorded: Callable[[], VotesTable]) -> VotesTable:
    """Read the votes of a file; where it is missing, record them and write it."""
    if file is not None and file.exists():
        return read_votes(file)
    table = recorded()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_votes(table, file)
    return table


def record(deployment: Deployment, seed: int, products: int) -> VotesTable:
    """Ask every member, without a server, about the listings of a seed."""
    return _recorded(deployment, _listings(deployment.root, seed, products))


def _recorded(deployment: Deployment, listings: Sequence[_Texts]) -> VotesTable:
    names = tuple(deployment.attributes)
    votes = [_ask(deployment, member, listings, names) for member in deployment.members]
    cells = []
    for at, listing in enumerate(listings):
        for a, name in enumerate(names):
            own = [answers[at][a] for answers in votes]
            scores = known_scores(vote.score for vote in own)
            values = tuple(vote.value or None for vote in own)
            gold = tuple(listing.gold[name])
            texts = (listing.product, listing.category, listing.title)
            cells.append(Cell(*texts, name, values, gold, None, scores))
    if not any(cell.scores for cell in cells):
        raise ValueError("no member gave a score: their runtime must know the log-probabilities of tokens")
    return build_table([member.name for member in deployment.members], cells)


def _listings(root: Path, seed: int, products: int) -> list[_Texts]:
    """The first listings of a seed, by the generator of the demo's checkout."""
    folder = root / _DEMO
    if not (folder / "listings.py").is_file():
        raise ValueError(f"the demo's listings come from its generator; there is no {folder}/listings.py")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    demo: Any = import_module("listings")
    # Far from the seeds of the held-out listings and of training.
    drawn = itertools.islice(demo.listings(seed * 7919 + 13, demo.HELDOUT_MIX), products)
    return [_Texts(f"s{seed}-{n:04d}", one.category, one.title, one.gold) for n, one in enumerate(drawn)]


def _ask(
    deployment: Deployment, member: MemberSpec, listings: Sequence[_Texts], names: tuple[str, ...]
) -> list[list[Vote]]:
    """The member's votes on each listing."""
    catalogue = deployment.catalogue()
    schema = json.dumps(answer_schema(catalogue, names), ensure_ascii=False)
    runtime = create(RuntimeSettings(member.name, deployment.root, member.options))
    replies: dict[int, Reply] = {}
    free = threading.Semaphore(_IN_FLIGHT)

    def done(number: int, reply: Reply) -> None:
        replies[number] = reply
        free.release()

    try:
        for number, one in enumerate(listings):
            free.acquire()
            prompt = build_prompt(catalogue, member.prompt, one.title, one.category, names)
            deadline = time.monotonic_ns() + _DEADLINE_NS
            runtime.submit(
                Question(prompt, schema, one.title, one.category, names, deadline), partial(done, number)
            )
        for _ in range(_IN_FLIGHT):
            free.acquire()
    finally:
        runtime.close()
    return [
        abstain(reply, len(names))
        if isinstance(reply, Status)
        else parse_answer(catalogue, names, *reply[:3])
        for reply in (replies[number] for number in range(len(listings)))
    ]


def halved(name: str, votes: CodedVotes, counts: Counts, seed: int | None = None) -> Halves:
    """Split votes by their products: the first half, or a random one, to learn from."""
    order = np.arange(len(votes.product_names))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(order)
    first = np.isin(votes.products, order[: (len(order) + 1) // 2])
    return Halves(name, votes, first, counts)


def _rows(votes: CodedVotes, keep: Flags) -> CodedVotes:
    products, index = np.unique(votes.products[keep], return_inverse=True)
    return replace(
        votes,
        codes=votes.codes[keep],
        right=votes.right[keep],
        groups=votes.groups[keep],
        products=index.astype(np.int32),
        product_names=[votes.product_names[product] for product in products],
        parts=votes.parts[keep],
        scores=None if votes.scores is None else votes.scores[keep],
    )


def learned(
    votes: CodedVotes, method: str, counts: Counts, gold: Flags | None = None, scores: bool = True
) -> Weights:
    """Learn weights; ``gold``: the cells whose labels are used, none by default."""
    return learn_statistic(statistic_of(votes, gold, scores), method, value_counts=counts)


def statistic_of(votes: CodedVotes, gold: Flags | None = None, scores: bool = True) -> Statistic:
    """Count the votes with the labels of some cells, with or without their scores."""
    right = np.where(False if gold is None else gold, votes.right, np.int64(-1))
    return count(
        votes.members, votes.group_names, votes.codes, votes.groups, right, votes.parts,
        len(votes.product_names), votes.scores if scores else None,
    )  # fmt: skip


def drawn_gold(votes: CodedVotes, labels: int, seed: int) -> Flags:
    """Choose random labelled cells."""
    rows = np.flatnonzero(votes.right >= 0)
    gold = np.zeros(len(votes.codes), np.bool_)
    gold[np.random.default_rng(seed).choice(rows, min(labels, len(rows)), replace=False)] = True
    return gold


def hits(votes: CodedVotes, weights: Weights | None = None) -> Flags:
    """(n,) whether the decision on each cell is right; None: by equal weights."""
    rule = as_rule(weights or equal_weights(votes.members), votes.group_names)
    levels = None
    if votes.scores is not None:
        levels = np.where(votes.codes == ABSTAIN, np.int8(NO_SCORE), levels_of(votes.scores))
    winner = decide(votes.codes, rule, votes.groups, votes.parts, levels).winner.astype(np.int64)
    named = np.maximum(votes.right, 0) >> np.maximum(winner, 0) & 1
    return np.asarray((named == 1) & (winner >= 0))


def member_hits(votes: CodedVotes) -> Flags:
    """(n, m) whether each member is right."""
    return np.asarray(np.maximum(votes.right, 0)[:, None] >> np.arange(len(votes.members)) & 1, np.bool_)


def by_attribute(votes: CodedVotes) -> Iterator[tuple[str, Flags]]:
    """Yield each attribute with its cells."""
    names = np.array([attribute for _, attribute in votes.group_names])[votes.groups]
    for name in sorted(set(names.tolist())):
        yield name, np.asarray(names == name)


def percent(right: Flags) -> float:
    """Share of true entries, in percent."""
    return float(100.0 * np.mean(right))

# SPDX-License-Identifier: Apache-2.0
"""Replace the scores of votes by noise, or distort them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.patterns import ABSTAIN
from quorum.learning.simulate import independent
from quorum.votes.table import CodedVotes

Numbers = npt.NDArray[np.float64]
Make = Callable[[CodedVotes, Numbers, np.random.Generator], Numbers]
"""From votes and their (n, m) scores as log odds (nan: none) to other log odds."""


class Kind(NamedTuple):
    """A change of scores.

    Attributes:
        make: Makes it.
        noise: Whether the new scores say less than the old ones, of all or of some members.
    """

    make: Make
    noise: bool = True


def changed(votes: CodedVotes, kind: str, rng: np.random.Generator) -> CodedVotes:
    """Votes with their scores changed by one of :data:`KINDS`; an abstention has none."""
    scores = np.full(votes.codes.shape, np.nan) if votes.scores is None else votes.scores.astype(np.float64)
    odds = KINDS[kind].make(votes, log_odds(scores), rng)
    return replace(votes, scores=as_scores(votes, odds))


def as_scores(votes: CodedVotes, odds: Numbers) -> npt.NDArray[np.float32]:
    """Log-probabilities of these log odds, nan where the member abstained."""
    none = np.isnan(odds) | (votes.codes == ABSTAIN)
    return np.where(none, np.nan, -np.logaddexp(0.0, -np.nan_to_num(odds))).astype(np.float32)


def log_odds(scores: Numbers) -> Numbers:
    """Log odds of log-probabilities, nan where there is none."""
    p = np.clip(np.exp(scores), 1e-9, 1.0 - 1e-9)
    return np.asarray(np.log(p) - np.log1p(-p))


def _uniform(low: float, high: float) -> Make:
    def make(votes: CodedVotes, odds: Numbers, rng: np.random.Generator) -> Numbers:
        return rng.uniform(low, high, odds.shape)

    return make


def _constant(value: float) -> Make:
    return lambda votes, odds, rng: np.full(odds.shape, value)


def _of_one(make: Make, last: bool = False) -> Make:
    """Change the scores of the first member only, or of the last."""

    def only(votes: CodedVotes, odds: Numbers, rng: np.random.Generator) -> Numbers:
        own = np.arange(odds.shape[1]) == (odds.shape[1] - 1 if last else 0)
        return np.where(own, make(votes, odds, rng), odds)

    return only


def _per_attribute(votes: CodedVotes, odds: Numbers, rng: np.random.Generator) -> Numbers:
    names = sorted({attribute for _, attribute in votes.group_names})
    place = np.array([names.index(attribute) for _, attribute in votes.group_names])
    own = rng.uniform(-3.0, 5.0, (len(names), odds.shape[1]))
    return np.asarray(own[place[votes.groups]])


def _per_product(votes: CodedVotes, odds: Numbers, rng: np.random.Generator) -> Numbers:
    own = rng.uniform(-3.0, 5.0, (len(votes.product_names), 1))[votes.products]
    return np.broadcast_to(own, odds.shape)


def _line(slope: float, offset: float, spread: float = 0.0) -> Make:
    def make(votes: CodedVotes, odds: Numbers, rng: np.random.Generator) -> Numbers:
        return slope * odds + offset + spread * rng.normal(size=odds.shape)

    return make


def _missing(share: float) -> Make:
    return lambda votes, odds, rng: np.where(rng.random(odds.shape) < share, np.nan, odds)


KINDS: Mapping[str, Kind] = {
    "as given": Kind(_line(1.0, 0.0), noise=False),
    "independent": Kind(_uniform(-4.0, 6.0)),
    "independent, high": Kind(_uniform(0.0, 7.0)),
    "overconfident": Kind(_uniform(6.0, 9.0)),
    "overconfident, one": Kind(_of_one(_uniform(6.0, 9.0), last=True)),
    "adversarial": Kind(_line(-1.0, 0.0)),
    "adversarial, one": Kind(_of_one(_line(-1.0, 0.0))),
    "constant, high": Kind(_constant(2.2)),
    "constant, low": Kind(_constant(-2.2)),
    "by attribute only": Kind(_per_attribute),
    "by product only": Kind(_per_product),
    "missing, one": Kind(_of_one(_constant(np.nan))),
    "missing at random": Kind(_missing(0.5)),
    "too hot": Kind(_line(0.7, 4.0), noise=False),
    "too hot, one": Kind(_of_one(_line(0.7, 5.0)), noise=False),
    "too cold": Kind(_line(0.7, -2.0), noise=False),
    "weak": Kind(_line(0.3, 0.0, 2.0), noise=False),
    "weak and hot": Kind(_line(0.3, 3.0, 2.0), noise=False),
}


def simulated(seed: int, products: int, accuracy: Numbers, attributes: int = 6) -> CodedVotes:
    """Votes of independent members that know how sure they are, with gold; attributes are not equally hard.

    Args:
        seed: Of the draw.
        products: Each with one cell per attribute.
        accuracy: (m,) mean probability of the right value, of 10.
        attributes: Their number.
    """
    rng, members = np.random.default_rng(seed), len(accuracy)
    groups = np.tile(np.arange(attributes, dtype=np.int32), products)
    shift = np.linspace(-0.08, 0.08, attributes) if attributes > 1 else np.zeros(1)
    mean = np.clip(accuracy + rng.permutation(shift)[groups][:, None], 0.05, 0.97)
    sure = np.clip(rng.beta(4.0 * mean, 4.0 * (1.0 - mean)), 1e-6, 1.0 - 1e-6)
    values, truth = independent(rng, len(groups), sure, 10)
    right = ((values == truth[:, None]).astype(np.int64) << np.arange(members)).sum(axis=1)
    votes = CodedVotes(
        members=tuple(f"member-{j}" for j in range(members)),
        codes=_as_candidates(values),
        right=right,
        groups=groups,
        group_names=tuple(("", f"attribute-{g}") for g in range(attributes)),
        products=np.repeat(np.arange(products, dtype=np.int32), attributes),
        product_names=[f"{n:06d}" for n in range(products)],
        parts=np.full(len(groups), ABSTAIN, np.int8),
    )
    return replace(votes, scores=as_scores(votes, np.log(sure) - np.log1p(-sure)))


def _as_candidates(values: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """Number the values of each cell from 1 in the order of its members."""
    codes = np.full(values.shape, ABSTAIN, np.int8)
    named = np.zeros(len(values), np.int8)
    for j in range(values.shape[1]):
        own = values[:, j]
        earlier = values[:, :j] == own[:, None]
        known = earlier.any(axis=1)
        new = (own != ABSTAIN) & ~known
        named += new
        first = codes[np.arange(len(values)), earlier.argmax(axis=1)] if j else codes[:, 0]
        codes[:, j] = np.where(own == ABSTAIN, ABSTAIN, np.where(known, first, named))
    return codes


def with_drawn_scores(votes: CodedVotes, rng: np.random.Generator) -> CodedVotes:
    """Votes with scores that are higher where the vote is right: for recorded votes without scores."""
    right = np.maximum(votes.right, 0)[:, None] >> np.arange(len(votes.members)) & 1
    odds = rng.normal(size=votes.codes.shape) * 1.5 + np.where(right == 1, 2.0, 0.0)
    return replace(votes, scores=as_scores(votes, odds))

# SPDX-License-Identifier: Apache-2.0
"""Turn an answer into a soft label: the expected grade under the calibrated confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorum.bulk.judging.journal import Cell, Decider, JudgeError, VoteOf
from quorum.bulk.judging.pairs import Pair
from quorum.decision.answer_kinds import kind_in, parameters_for
from quorum.decision.catalogue_change import OUTSIDE
from quorum.decision.cell import decide_one, share_out
from quorum.decision.evidence import Evidence
from quorum.decision.weights import Weights, WeightsError
from quorum.deployment.schema import Deployment
from quorum.repository.store import Store
from quorum.server.runfile import find_running
from quorum.tasks.default import Default
from quorum_client import Answer, DecisionStatus, Status

_SAME = 1e-4
"""Confidences travel as float32."""


def asked_by(deployment: Deployment) -> Default:
    """The question that keyphrases are asked; raises JudgeError where the deployment has none."""
    asked = deployment.catalogue().default
    if asked is None:
        raise JudgeError(
            f"{deployment.path} has no `default` question to ask of keyphrases; add `default:` with"
            " `question` and `values`, from worst to best, and run `quorum render`"
        )
    return asked


class Labels:
    """Labels of answers; knows the weights of the versions that decide, where their files are at hand."""

    def __init__(self, deployment: Deployment) -> None:
        running = find_running(deployment)
        self._asked = asked_by(deployment)
        self._store = Store(running.repository if running else deployment.repository_path)
        self._members, self._catalogue = deployment.member_names, deployment.catalogue()
        self._weights: dict[int, Weights | None] = {}
        self._hashes: dict[int, str] = {}

    def decider(self, version: int) -> Decider:
        """What is known of the weights of a version."""
        weights = self._of(version)
        return Decider(version, self._hashes.get(version), weights.confidence if weights else None)

    def cell(self, pair: Pair, answer: Answer, version: int) -> Cell:
        """The outcome of one pair.

        Raises:
            JudgeError: The server's members or values are not those of the deployment.
        """
        if [vote.member for vote in answer.votes] != self._members:
            raise JudgeError(
                f"the server's members are {', '.join(vote.member for vote in answer.votes)}, deploy.yaml has"
                f" {', '.join(self._members)}: name the deployment that is served with --deploy"
            )
        votes = tuple(VoteOf(vote.value, int(vote.status), vote.score) for vote in answer.votes)
        if answer.status is not DecisionStatus.DECIDED or answer.value is None:
            return Cell(pair.line, votes, reason=answer.status.name)
        if self._asked.grade(answer.value) is None:
            raise JudgeError(
                f"the server answers {answer.value!r} about a keyphrase, and the question of deploy.yaml has"
                " no such value: it serves another question; restart it with `quorum up`"
            )
        named = [vote.value for vote in answer.votes if vote.status is Status.ANSWERED]
        confidence = min(1.0, max(0.0, answer.confidence))
        shares = self._shares(pair, answer, version)
        return Cell(
            pair.line,
            votes,
            answer.value,
            confidence,
            expected_grade(self._asked, answer.value, confidence, shares or {}),
            sum(value != answer.value for value in named) / len(named),
            shares is not None,
        )

    def _shares(self, pair: Pair, answer: Answer, version: int) -> Mapping[str | None, float] | None:
        """How the weights share out their confidence; None where they are not those that decided."""
        weights = self._of(version)
        if weights is None or weights.members != tuple(self._members):
            return None
        kind = kind_in(self._catalogue.answer_kinds(), OUTSIDE)
        parameters = parameters_for(weights, pair.keyphrase, pair.category, kind)
        ballots = [(vote.value or "", int(vote.status)) for vote in answer.votes]
        scores = [vote.score for vote in answer.votes]
        text = Evidence(weights.evidence).of(pair.text) if weights.evidence and parameters.text else None
        value, confidence = decide_one(parameters, ballots, scores, text)
        if value != answer.value or abs(confidence - answer.confidence) > _SAME:
            return None
        return share_out(parameters, ballots, scores, text)

    def _of(self, version: int) -> Weights | None:
        if version not in self._weights:
            try:
                weights = self._store.weights(version)
                self._hashes[version] = weights.content_hash
                self._weights[version] = weights.fitted(self._catalogue.hashes)
            except WeightsError:
                self._weights[version] = None
        return self._weights[version]


def expected_grade(
    asked: Default, value: str, confidence: float, shares: Mapping[str | None, float]
) -> float:
    """The grade that is expected, in [0, 1].

    The decided value has the confidence. The rest is shared out over the other values as the votes share it:
    to each value that members named by its share, and the share of "none of these" evenly to those that no
    member named; where the votes say nothing, evenly. With two values, one has p and the other 1 - p.

    Args:
        asked: The question with its grades.
        value: Decided, one of its values.
        confidence: Of it, in [0, 1].
        shares: Of :func:`quorum.decision.cell.share_out`; empty: not known.
    """
    others = [other for other in asked.values if other != value]
    unnamed = [other for other in others if other not in shares]
    none = shares.get(None, 0.0) / len(unnamed) if unnamed else 0.0
    found = [none if other in unnamed else shares.get(other, 0.0) for other in others]
    total = sum(found)
    rest = [part / total for part in found] if total > 0 else [1 / len(others)] * len(others)
    return min(
        1.0, _grade(asked, [value, *others], [confidence, *((1 - confidence) * part for part in rest)])
    )


def _grade(asked: Default, values: Sequence[str], shares: Sequence[float]) -> float:
    return sum((asked.grade(value) or 0.0) * share for value, share in zip(values, shares, strict=True))

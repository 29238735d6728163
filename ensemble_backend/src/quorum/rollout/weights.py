# SPDX-License-Identifier: Apache-2.0
"""Weights as something that is versioned: how a version is written, checked, judged before a publish."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quorum.decision.kept import keep_attributes
from quorum.decision.trial import check_decisions
from quorum.decision.weights import Weights
from quorum.evaluation.guard import Comparison, compare
from quorum.repository.state import State
from quorum.repository.store import refused
from quorum.review.spellings import as_served, respelled_in_words
from quorum.rollout.kind import Kind
from quorum.rollout.lock import RolloutError, WorseVersion
from quorum.votes import VotesError, read_votes
from quorum_contract import GATE, LAZY_OF


class WeightsKind(Kind[Weights]):
    """Versions of ``quorum_vote``."""

    part, share_in = State, (GATE,)
    noun, content, flag = "the weights", "weights", ""

    def following(self, channel: str) -> tuple[str, ...]:
        """As :meth:`Kind.following`: its lazy namesake, if the deployment has lazy channels."""
        return (channel, LAZY_OF[channel]) if self.spec.lazy else (channel,)

    def hash_of(self, version: int) -> str:
        """As :meth:`Kind.hash_of`; raises WeightsError."""
        return self.store.weights(version).content_hash

    def content_hash(self, content: Weights) -> str:
        """As :meth:`Kind.content_hash`."""
        return content.content_hash

    def add(self, version: int, content: Weights) -> None:
        """As :meth:`Kind.add`."""
        self.store.add_version(version, content)

    def source(self, version: int) -> Path:
        """The version's ``weights.json``."""
        return self.store.weights_path(version)

    def check(self, content: Weights) -> None:
        """Raise WeightsError for weights of other members, and those that do not decide made-up votes."""
        check_decisions(content)
        catalogue = self.spec.catalogue()
        content.check_fits(self.spec.member_names, catalogue.hashes, catalogue.hash)

    def unfit(self, version: int) -> str:
        """Why a version does not decide."""
        return refused([version], lambda v: check_decisions(self.store.weights(v))).get(version, "")

    def keeping(self, content: Weights, names: Sequence[str]) -> Weights:
        """The weights with the running version's parameters for these attributes; RolloutError for others."""
        if not names:
            return content
        catalogue = self.spec.catalogue().hashes
        running = self.store.weights(self.running().pins[self.stable]).fitted(catalogue)
        known = dict.fromkeys([*self.spec.attributes, *running.attributes, *content.attributes])
        if unknown := [repr(name) for name in names if name not in known]:
            raise RolloutError(
                f"there is no attribute {', '.join(unknown)} to keep; there are: {', '.join(known)}"
            )
        return keep_attributes(content, running, names, catalogue)

    def compare(self, content: Weights) -> Comparison | None:
        """Compare weights with the running ones on the held-out votes, spelled as in serving.

        Returns:
            ``None`` if the spec names none.

        Raises:
            VotesError: The table cannot be read, or lacks votes of members.
            RolloutError: It has no gold.
        """
        rules = self.spec.rollout
        if rules.heldout is None:
            return None
        path = self.spec.root / rules.heldout
        catalogue = self.spec.catalogue()
        running = self.store.weights(self.running().pins[self.stable])
        served = content.fitted(catalogue.hashes), running.fitted(catalogue.hashes)
        try:
            # Other members than the running version's are those of a deployment that is applied.
            members = dict.fromkeys((*self.spec.member_names, *running.members))
            recorded = read_votes(path).of_members([*members])
            table, respelled = as_served(recorded.only(self.spec.member_names), catalogue)
            before, _ = as_served(recorded.only(running.members), catalogue)
            found = compare(*served, table, rules.margin, catalogue.answer_kinds(), before)
            return replace(found, remark=respelled_in_words(respelled))
        except VotesError:
            raise
        except ValueError as error:
            raise RolloutError(f"rollout.heldout {path}: {error}") from error

    def refuse_worse(self, comparison: Comparison, otherwise: str = "--force it with a reason") -> None:
        """Raise WorseVersion for weights that are worse than ``rollout.guard`` allows."""
        rules, worse = self.spec.rollout, comparison.worse
        figures = "; ".join(filter(None, (str(comparison), comparison.remark)))
        if rules.guard == "per_attribute" and worse:
            keep = " ".join(f"--keep {shlex.quote(name)}" for name in worse)
            raise WorseVersion(
                f"not published: {comparison.warning} ({figures}); rollout.guard is per_attribute: let "
                f"the running version decide these (`{keep}`), learn from more labels, or {otherwise}"
            )
        if comparison.delta < -rules.margin:
            named = f"; {comparison.warning}" if comparison.warning else ""
            raise WorseVersion(f"not published: {figures}{named}; see `quorum diff`, or {otherwise}")

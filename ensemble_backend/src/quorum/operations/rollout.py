# SPDX-License-Identifier: Apache-2.0
"""Publish weights or a retriever on all servers of a deployment, and pin channels to versions.

What fails changes nothing. Functions with ``retriever`` change the weights unless it is set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from quorum.bulk.callbacks import Note, ignore
from quorum.decision import weights as weights_file
from quorum.decision.kept import kept_attributes
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.operations.scores import missing_scores
from quorum.operations.servers import servers_of, store_of
from quorum.repository.history import Event, History
from quorum.rollout.change import Change
from quorum.rollout.channels import Rollout
from quorum.rollout.fleet import Fleet, SharedRepository
from quorum.rollout.retriever import RetrieverKind
from quorum.rollout.target import Probe
from quorum.rollout.weights import WeightsKind
from quorum.server.control import Control
from quorum.server.probe import probe_decision, probe_recommend
from quorum.server.runfile import endpoint_of

_PROBE_S = 20.0


@contextmanager
def connect(
    deployment: Deployment, dry_run: bool = False, retriever: bool = False, note: Note = ignore
) -> Iterator[Fleet]:
    """Open a rollout on the servers of a deployment, for several changes in a ``with`` block.

    Args:
        deployment: The deployment that is served.
        dry_run: Check everything and change nothing.
        retriever: Roll out versions of the retriever, not of the weights.
        note: Takes lines on the progress of long comparisons.
    """
    key = endpoint_of(deployment).admin_key
    kind = RetrieverKind if retriever else WeightsKind
    with ExitStack() as controls:
        rollouts = {}
        for repository, urls in servers_of(deployment).items():
            controlled = {url: controls.enter_context(Control(url, key)) for url in urls}
            servers = SharedRepository(
                {url: (control, _probe(deployment, url, retriever)) for url, control in controlled.items()}
            )
            rollouts[", ".join(urls)] = Rollout(
                deployment, servers, servers.probe, repository, dry_run, kind, note
            )
        yield Fleet(rollouts)


def _probe(deployment: Deployment, url: str, retriever: bool) -> Probe:
    if retriever:
        return lambda channel: probe_recommend(url, channel, _PROBE_S)
    return partial(probe_decision, deployment, url)


def publish(
    deployment: Deployment,
    content: Weights | str | Path,
    *,
    force: str | None = None,
    keep: Sequence[str] = (),
    dry_run: bool = False,
    note: Note = ignore,
) -> Change:
    """Make weights, those of a file, or a retriever's folder a new version on the running server.

    No channel changes yet; only the first version of a retriever is answered by its channels at once.

    Args:
        deployment: The deployment that is served.
        content: Weights, a file of weights, or a folder that ``quorum index`` wrote.
        force: Reason, for the history, to publish it even if it is worse on held-out data.
        keep: Attributes that the new version decides as the running one does; its provenance names them.
        dry_run: Check everything and change nothing.
        note: Takes lines on the progress of long comparisons.

    Raises:
        WeightsError: The file cannot be used, or is made for other members.
        ManifestError: The folder is none of a retriever, or its files are damaged.
        RolloutError: Worse than the running version on held-out data, by more than ``rollout.margin``, over
            all or, with ``rollout.guard: per_attribute``, on an attribute, or than ``retriever`` allows; an
            unknown attribute to keep; or refused by a server.
    """
    if not isinstance(content, Weights) and Path(content).is_dir():
        with connect(deployment, dry_run, retriever=True, note=note) as rollout:
            return rollout.publish(Path(content), force, tuple(keep))
    loaded = content if isinstance(content, Weights) else weights_file.load(content)
    with connect(deployment, dry_run) as rollout:
        change = rollout.publish(loaded, force, names := tuple(dict.fromkeys(keep)))
        published = rollout.keeping(loaded, names)
    catalogue = deployment.catalogue()
    changed = published.catalogue_change(catalogue.hashes, catalogue.answer_kinds())
    return replace(change, unscored=tuple(missing_scores(deployment, published)), catalogue=changed)


def canary(
    deployment: Deployment,
    version: int,
    share: float = 0.0,
    *,
    retriever: bool = False,
    dry_run: bool = False,
) -> Change:
    """Pin the canary of the weights, or of the retriever, for a share of products or items (0 to 1).

    Raises RolloutError if it fails. ``dry_run`` only checks.
    """
    with connect(deployment, dry_run, retriever) as rollout:
        return rollout.canary(version, share)


def end_canary(deployment: Deployment, *, retriever: bool = False, dry_run: bool = False) -> Change:
    """Set the canary back: no share, stable's version; RolloutError if it fails. ``dry_run`` only checks."""
    with connect(deployment, dry_run, retriever) as rollout:
        return rollout.end_canary()


def promote(
    deployment: Deployment, version: int, *, retriever: bool = False, dry_run: bool = False
) -> Change:
    """Pin stable to a version; RolloutError if there is none such or it fails. ``dry_run`` only checks."""
    with connect(deployment, dry_run, retriever) as rollout:
        return rollout.promote(version)


def rollback(deployment: Deployment, *, retriever: bool = False, dry_run: bool = False) -> Change:
    """Pin the stable channel to its version before the last promotion; ``dry_run`` only checks.

    Raises RolloutError: It never changed, the version before is gone, or the channel does not answer with it.
    """
    with connect(deployment, dry_run, retriever) as rollout:
        return rollout.rollback()


def retire(deployment: Deployment, version: int, *, retriever: bool = False, dry_run: bool = False) -> Change:
    """Unload a version but keep its folder; RolloutError if a channel needs it. ``dry_run`` only checks."""
    with connect(deployment, dry_run, retriever) as rollout:
        return rollout.retire(version)


def history(deployment: Deployment) -> list[Event]:
    """The log of changes, oldest first."""
    return list(History(store_of(deployment).path).events())


@dataclass(frozen=True, slots=True)
class WeightsDiff:
    """Two versions of the weights, each relative to its own heaviest member; the old one stands first.

    Attributes:
        methods: How they were learned.
        weights: Attribute, or "default" -> weights of votes without a score, in the order of ``members``.
        use_scores: Whether they weigh votes by their scores.
        kept: Attributes that they decide as earlier versions did; see :func:`publish`.
        sure_over_unsure: Attribute, or "default" -> how much more a vote of probability ``SURE`` weighs than
            one of ``UNSURE``, in the same unit.
        use_texts: Whether they weigh values by the products' texts.
    """

    SURE: ClassVar[float] = 0.99
    UNSURE: ClassVar[float] = 0.3

    members: tuple[str, ...]
    methods: tuple[str, str]
    weights: dict[str, tuple[list[float], list[float]]]
    use_scores: tuple[bool, bool]
    sure_over_unsure: dict[str, tuple[list[float], list[float]]]
    use_texts: tuple[bool, bool]
    kept: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        (old, new), (kept_before, kept_now) = self.use_scores, self.kept
        return {
            "members": self.members,
            "weights": _named(self.weights),
            "use_scores": {"old": old, "new": new},
            "sure_over_unsure": _named(self.sure_over_unsure),
            "kept": {"old": list(kept_before), "new": list(kept_now)},
            "use_texts": dict(zip(("old", "new"), self.use_texts, strict=True)),
        }


def diff(deployment: Deployment, old: int, new: int) -> WeightsDiff:
    """Compare two versions of the weights, as they are served; raises WeightsError if one cannot be read."""
    store, catalogue = store_of(deployment), deployment.catalogue().hashes
    before, after = (store.weights(version).fitted(catalogue) for version in (old, new))
    names = ["default", *sorted({*before.attributes, *after.attributes})]
    pairs = {name: (_relative(before, name), _relative(after, name)) for name in names}
    gains = {name: (_sure_over_unsure(before, name), _sure_over_unsure(after, name)) for name in names}
    use_scores = before.uses_scores, after.uses_scores
    use_texts = bool(before.evidence), bool(after.evidence)
    kept = kept_attributes(before), kept_attributes(after)
    methods = before.method, after.method
    return WeightsDiff(after.members, methods, pairs, use_scores, gains, use_texts, kept)


def _named(pairs: Mapping[str, tuple[list[float], list[float]]]) -> dict[str, dict[str, list[float]]]:
    return {name: {"old": old, "new": new} for name, (old, new) in pairs.items()}


def _relative(weights: Weights, attribute: str) -> list[float]:
    values = weights.parameters(attribute).weights
    top = max(values) or 1.0
    return [value / top for value in values]


def _sure_over_unsure(weights: Weights, attribute: str) -> list[float]:
    parameters = weights.parameters(attribute)
    top = max(parameters.weights) or 1.0
    sure, unsure = (
        parameters.at([math.log(probability)] * len(weights.members)).weights
        for probability in (WeightsDiff.SURE, WeightsDiff.UNSURE)
    )
    return [(high - low) / top for high, low in zip(sure, unsure, strict=True)]

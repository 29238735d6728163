# SPDX-License-Identifier: Apache-2.0
"""What a repository needs before a server starts from it: no half-made change, no damaged version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quorum.repository.configs import print_config, vote_step
from quorum.repository.store import Store
from quorum.rollout.history import History, timestamp
from quorum.rollout.journal import Journal, Pending
from quorum.rollout.lock import locked
from quorum_contract import STABLE, VOTE


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A damaged version that is not loaded any more; its folder stays, so that its number is not given again.

    Attributes:
        version: The version.
        why: What is wrong with it.
        moved: Channel that answered with it -> the version that it answers with instead.
    """

    version: int
    why: str
    moved: dict[str, int]

    def __str__(self) -> str:
        """In words."""
        moved = "".join(f"; {channel} goes to version {to}" for channel, to in self.moved.items())
        return f"version {self.version} is damaged and left out ({self.why}){moved}"


def recover_offline(repository: Path) -> Pending | None:
    """Take back what an interrupted rollout left, before a server starts from the repository.

    Returns:
        What was taken back, if anything.

    Raises:
        RolloutError: A rollout is at work.
    """
    store = Store(repository)
    with locked(repository):
        return Journal(store, History(repository)).recover(None)


def quarantine(repository: Path) -> list[Quarantined]:
    """Leave damaged versions out of the next start: one of them would keep Triton from starting at all.

    A channel that answered with one goes to the version that the stable channel answered with before. Where
    there is none, nothing is changed: never does a version go live by itself that nobody promoted.

    Raises:
        RolloutError: A rollout is at work.
    """
    store, history = Store(repository), History(repository)
    with locked(repository):
        found = []
        for version, why in store.damaged().items():
            moved = _ways_out(store, history, version)
            if moved is None:
                continue
            _leave_out(store, history, version, why, moved)
            found.append(Quarantined(version, why, moved))
        return found


def _ways_out(store: Store, history: History, version: int) -> dict[str, int] | None:
    """Channel -> where it goes, for those that are pinned to ``version``; ``None`` if there is nowhere."""
    pins, sound = store.pins(), set(store.versions_listed()) - store.damaged().keys()
    served = [v for v in history.served() if v in sound]
    stable = pins.get(STABLE)
    if not sound or (version in pins.values() and stable not in sound and not served):
        return None
    refuge = stable if stable in sound else next(iter(served), None)
    return {channel: refuge for channel, pinned in pins.items() if pinned == version and refuge is not None}


def _leave_out(store: Store, history: History, version: int, why: str, moved: dict[str, int]) -> None:
    models = [*moved, VOTE]
    before = {model: store.read_config(model) or "" for model in models}
    journal = Journal(store, history)
    pending = Pending(timestamp(), "quarantine", version, None, "", before, reason=why)
    journal.begin(pending)
    for channel, to in moved.items():
        config = store.config(channel)
        vote_step(config).model_version = to
        store.write_config(channel, print_config(config))
    config = store.config(VOTE)
    listed = [v for v in config.version_policy.specific.versions if v != version]
    config.version_policy.specific.versions[:] = listed
    store.write_config(VOTE, print_config(config))
    journal.finish(pending)

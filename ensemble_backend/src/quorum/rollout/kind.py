# SPDX-License-Identifier: Apache-2.0
"""Say what a rollout has to know of something that is versioned: weights, or a retriever.

A :class:`Kind` names the model, its part of ``state.json`` and its channels, writes a version's files, tells
damaged ones, and judges what is to be published. All else of a change is the same for both
(:mod:`quorum.rollout.channels`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from quorum.deployment.schema import Deployment
from quorum.repository.state import Served, State
from quorum.repository.store import Store, refused
from quorum.rollout.lock import RolloutError
from quorum_contract.errors import QuorumError

Content = TypeVar("Content")
Note = Callable[[str], None]
"""Takes a line on what is being done."""


class Kind(ABC, Generic[Content]):
    """Something that is versioned, in the repository of a store.

    Attributes:
        part: Its part of the state.
        model: Triton's model whose versions they are.
        stable: The channel that callers ask.
        canary: The channel for a share of them.
        share_in: The models whose configuration holds that share.
        noun: As people call it, with its article: "the weights".
        content: What a version of it holds: "weights".
        flag: The option that names it on the command line, with a space before it; "" for weights.
    """

    part: ClassVar[type[Served]]
    share_in: ClassVar[tuple[str, ...]]
    noun: ClassVar[str]
    content: ClassVar[str]
    flag: ClassVar[str]

    def __init__(self, spec: Deployment, store: Store, note: Note = lambda _: None) -> None:
        self.spec = spec
        self.note = note
        self.store = store
        self.model = self.part.model
        self.stable, self.canary = self.part.channels

    def served(self, state: State | None = None) -> Served | None:
        """Its part of the state, by default of the one on disk; None where no version was published."""
        return (state or self.store.state()).of(self.model)

    def running(self) -> Served:
        """Its part of the state on disk; raises RolloutError where no version was published."""
        if served := self.served():
            return served
        raise RolloutError(f"no version of {self.noun} was published; `quorum publish` one first")

    def damaged(self) -> dict[int, str]:
        """Loaded versions whose files are damaged, with the reason: Triton would not start with them."""
        served = self.served()
        return self.broken(served.versions if served else ())

    def broken(self, versions: Iterable[int]) -> dict[int, str]:
        """Those of these versions whose files are damaged, with the reason."""
        return refused(versions, self.hash_of)

    def hash_if_sound(self, version: int) -> str:
        """The content hash of a version; empty where it is damaged."""
        try:
            return self.hash_of(version)
        except QuorumError:
            return ""

    def following(self, channel: str) -> tuple[str, ...]:
        """The channels that follow the pin of a channel, itself first."""
        return (channel,)

    def pins(self, state: State) -> dict[str, int]:
        """Channel -> its version, also for those that follow another; none where no version was published."""
        served = self.served(state)
        pins = served.pins if served else {}
        return {name: pins[channel] for channel in pins for name in self.following(channel)}

    @abstractmethod
    def hash_of(self, version: int) -> str:
        """The content hash of a version on disk; raises a QuorumError where it is damaged or missing."""

    @abstractmethod
    def content_hash(self, content: Content) -> str:
        """The content hash of what is to be published."""

    def inner(self, version: int) -> tuple[str, ...]:
        """Models that one version alone asks, besides the versioned model."""
        return ()

    @abstractmethod
    def add(self, version: int, content: Content) -> None:
        """Write a version folder, which appears complete or not at all."""

    @abstractmethod
    def source(self, version: int) -> Path:
        """What of a version on disk `quorum publish` takes again."""

    @abstractmethod
    def check(self, content: Content) -> None:
        """Raise a QuorumError for what cannot serve this deployment."""

    @abstractmethod
    def unfit(self, version: int) -> str:
        """Why no channel may be pinned to a sound version; "" where one may."""

    @abstractmethod
    def keeping(self, content: Content, names: Sequence[str]) -> Content:
        """The content with the running version's answers to some attributes; RolloutError where it cannot."""

    @abstractmethod
    def compare(self, content: Content) -> Any:
        """Compare with the running version on held-out data, if the deployment names some; else None.

        The comparison is one line as a string.
        """

    @abstractmethod
    def refuse_worse(self, comparison: Any) -> None:
        """Raise WorseVersion for a content that is worse than the deployment allows."""

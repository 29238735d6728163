# SPDX-License-Identifier: Apache-2.0
"""Read and write ``state.json``: loaded versions, the pin of each channel and the canary's share.

This file alone holds them. Triton's configurations follow from it and from ``deploy.yaml``
(:func:`quorum.repository.render.rendered_files`) and are never read back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
from msgspec.structs import replace

from quorum.serving.share import STATE_FILE as STATE_FILE
from quorum_contract import CHANNELS, RECOMMEND_CHANNELS, RETRIEVER, VOTE
from quorum_contract.errors import QuorumError

SCHEMA_VERSION = 1
VERSIONED = (VOTE, RETRIEVER)
"""The models whose versions are published: a version of the first is weights."""


class RepositoryError(QuorumError, RuntimeError):
    """The model repository is not as expected; the message names the file and the fix."""

    code = "REPOSITORY_INVALID"


class Served(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The loaded versions of one versioned model, and the channels that are pinned to them.

    Attributes:
        versions: Loaded versions, ascending.
        pins: Channel -> its version, for every channel.
        canary_share: Share of the products that callers send to the canary channel, in [0, 1].
    """

    model: ClassVar[str]
    channels: ClassVar[tuple[str, ...]]

    versions: tuple[int, ...]
    pins: Mapping[str, int]
    canary_share: float

    def __post_init__(self) -> None:
        """Refuse, as ValueError, a state that no server can serve."""
        ascending = self.versions and list(self.versions) == sorted({*self.versions})
        if not ascending or not 1 <= self.versions[0] <= self.versions[-1] < 1 << 63:
            raise ValueError(f"versions {list(self.versions)} are not ascending numbers from 1 to 2^63")
        if self.pins.keys() != {*self.channels}:
            raise ValueError(f"pins are of {sorted(self.pins)}, expected {sorted(self.channels)}")
        for channel, version in self.pins.items():
            if version not in self.versions:
                raise ValueError(f"{channel} is pinned to version {version}, loaded are {[*self.versions]}")
        if not 0 <= self.canary_share <= 1:
            raise ValueError(f"canary_share {self.canary_share} is not in [0, 1]")

    @classmethod
    def first(cls, version: int) -> Self:
        """One version, which every channel is pinned to."""
        return cls((version,), dict.fromkeys(cls.channels, version), 0.0)

    def pinned(self, channel: str, version: int, canary_share: float | None = None) -> Self:
        """The state with a channel pinned to another version, and another share if given."""
        share = self.canary_share if canary_share is None else float(canary_share)
        return replace(self, pins={**self.pins, channel: version}, canary_share=share)

    def listing(self, versions: Iterable[int], pins: Mapping[str, int] | None = None) -> Self:
        """The state with other versions loaded, and with these pins changed."""
        return replace(self, versions=tuple(sorted({*versions})), pins={**self.pins, **(pins or {})})


class RetrieverState(Served, frozen=True, forbid_unknown_fields=True):
    """Versions of the retriever, and the pins of the channels that recommend keyphrases."""

    model: ClassVar[str] = RETRIEVER
    channels: ClassVar[tuple[str, ...]] = RECOMMEND_CHANNELS


class State(Served, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The part of a deployment that changes while it is served: versions of the weights, and the retriever.

    Attributes:
        retriever: None: no version of the retriever was published.
    """

    model: ClassVar[str] = VOTE
    channels: ClassVar[tuple[str, ...]] = CHANNELS

    retriever: RetrieverState | None = None

    def of(self, model: str) -> Served | None:
        """What is served of a versioned model: ``quorum_vote`` or ``quorum_retriever``; None: nothing."""
        return self if model == VOTE else self.retriever

    def having(self, model: str, served: Served | None) -> State:
        """The state with another part for a versioned model; of the weights there always is one."""
        if model == VOTE:
            assert served is not None
            return replace(self, versions=served.versions, pins=served.pins, canary_share=served.canary_share)
        return replace(self, retriever=served)


class _Schema(msgspec.Struct):
    schema_version: int


class _File(State, frozen=True, forbid_unknown_fields=True):
    schema_version: int = SCHEMA_VERSION


def dump_state(state: State) -> str:
    """The text of ``state.json``; deterministic."""
    data: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **_facts(state)}
    if state.retriever is not None:
        # Left out where there is none: releases before it refuse unknown fields.
        data["retriever"] = _facts(state.retriever)
    return json.dumps(data, indent=2) + "\n"


def _facts(served: Served) -> dict[str, Any]:
    return {
        "versions": served.versions,
        "pins": {channel: served.pins[channel] for channel in served.channels},
        "canary_share": float(served.canary_share),
    }


def read_state(path: Path) -> State:
    """Inverse of :func:`dump_state`; raises RepositoryError for a file that is missing, damaged or newer."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise RepositoryError(
            f"{path} is missing: run `quorum render`, which writes it (from the configurations in that "
            "repository, if it was rendered before this file existed)"
        ) from None
    try:
        schema = msgspec.json.decode(raw, type=_Schema).schema_version
        if schema != SCHEMA_VERSION:
            raise RepositoryError(
                f"{path}: schema version {schema}, this release reads {SCHEMA_VERSION}; use the release that "
                "wrote it"
            )
        file = msgspec.json.decode(raw, type=_File)
    except (ValueError, RecursionError) as error:
        raise RepositoryError(
            f"{path}: {error}; restore it from version control, or remove it and run `quorum render`, which "
            "takes versions and pins from the configurations that were rendered last"
        ) from error
    return State(file.versions, file.pins, file.canary_share, file.retriever)

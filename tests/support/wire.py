# SPDX-License-Identifier: Apache-2.0
"""A reader of raw answers, written from the contract and apart from the client library."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer of a channel.

    Attributes:
        votes: ``votes[member][attribute position]`` is (value, status).
        scores: ``scores[member][attribute position]``; None: the vote has none.
    """

    values: list[str]
    confidence: list[float]
    members: list[str]
    votes: dict[str, list[tuple[str, int]]]
    version: int
    scores: dict[str, list[float | None]]


def elements(raw: bytes) -> list[str]:
    """A BYTES tensor's elements."""
    found, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + size].decode("utf-8"))
        at += 4 + size
    return found


def reply_of(buffers: Mapping[str, bytes]) -> Reply:
    """An answer from its raw output buffers."""
    values = elements(buffers["VALUES"])
    members = elements(buffers["MEMBERS"])
    a, n = len(values), len(members)
    said = elements(buffers["MEMBER_VALUES"])
    status = struct.unpack(f"<{n * a}i", buffers["MEMBER_STATUS"])
    votes = {
        member: [(said[j * a + i], status[j * a + i]) for i in range(a)] for j, member in enumerate(members)
    }
    numbers = [None if x != x else x for x in struct.unpack(f"<{n * a}f", buffers["MEMBER_SCORES"])]
    scores = {member: numbers[j * a : (j + 1) * a] for j, member in enumerate(members)}
    confidence = list(struct.unpack(f"<{a}f", buffers["CONFIDENCE"]))
    (version,) = struct.unpack("<q", buffers["WEIGHTS_VERSION"])
    return Reply(values, confidence, members, votes, version, scores)


def grpc_reply(response: Any) -> Reply:
    """An answer from a ``ModelInferResponse``."""
    names = [output.name for output in response.outputs]
    return reply_of(dict(zip(names, response.raw_output_contents, strict=True)))


def json_reply(answer: Mapping[str, Any]) -> Reply:
    """An answer from the JSON that the HTTP endpoint gives when no binary outputs are asked for."""
    data = {output["name"]: output["data"] for output in answer["outputs"]}
    a = len(data["VALUES"])
    votes = {
        member: list(
            zip(
                data["MEMBER_VALUES"][j * a : (j + 1) * a],
                data["MEMBER_STATUS"][j * a : (j + 1) * a],
                strict=True,
            )
        )
        for j, member in enumerate(data["MEMBERS"])
    }
    numbers = [None if x != x else x for x in data["MEMBER_SCORES"]]
    scores = {member: numbers[j * a : (j + 1) * a] for j, member in enumerate(data["MEMBERS"])}
    version = data["WEIGHTS_VERSION"][0]
    return Reply(data["VALUES"], data["CONFIDENCE"], data["MEMBERS"], votes, version, scores)


def plain_majority(ballots: Sequence[tuple[str, int]]) -> str:
    """What most members said, by counting; equal counts go to the block of the earliest member."""
    said = [value for value, status in ballots if status == 0]
    return max(said, key=lambda value: (Counter(said)[value], -said.index(value))) if said else ""

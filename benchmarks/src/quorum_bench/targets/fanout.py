# SPDX-License-Identifier: Apache-2.0
"""Measure a client that asks every member of a tritonserver itself and counts their votes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from quorum.decision.cell import Parameters, decide_one
from quorum.serving.packing import unpack_votes
from quorum_bench.targets import CallerSpec
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload
from quorum_contract import VOTES
from quorum_contract.tensors import PACKED_QUESTION

_FACTORY = "quorum_bench.targets.fanout:FanoutCaller"


class FanoutTarget(QuorumTarget):
    """The members of a deployment without its ensemble: gate and vote stand idle."""

    def caller(self, workload: Workload) -> CallerSpec:
        """Return a caller that asks all members at once and decides with equal weights."""
        return CallerSpec(
            _FACTORY,
            {
                "url": self.url,
                "members": list(self.members),
                "questions": [packed.hex() for packed in self.questions(workload)],
                "timeout_s": 30.0,
            },
        )


class FanoutCaller:
    """One answer is ``N`` requests, their votes taken apart, and the decision rule for each attribute.

    Written as in the documentation of ``tritonclient``: one asyncio client, an ``InferInput`` per
    question, all members awaited together.

    Args:
        url: ``host:port``.
        members: ``N`` models.
        questions: Per product the gate's packed question, in hex: members take nothing else.
        timeout_s: Of each request.
    """

    def __init__(self, url: str, members: Sequence[str], questions: Sequence[str], timeout_s: float) -> None:
        self._url, self._members, self._timeout_s = url, members, timeout_s
        self._questions = [np.frombuffer(bytes.fromhex(packed), np.uint8) for packed in questions]
        self._parameters = Parameters((1.0,) * len(members))
        self._client: Any = None

    async def open(self) -> None:
        """Connect; ask the first question."""
        self._client = InferenceServerClient(self._url)
        self.check(0, await self.call(0))

    async def call(self, number: int) -> list[tuple[str, float]]:
        """Return value and confidence of each attribute; this work counts, because it is the vote."""
        question = self._questions[number % len(self._questions)]
        asked = InferInput(PACKED_QUESTION.name, list(question.shape), PACKED_QUESTION.datatype)
        asked.set_data_from_numpy(question)
        answers = await asyncio.gather(
            *(self._client.infer(member, [asked], client_timeout=self._timeout_s) for member in self._members)
        )
        packed = [answer.as_numpy(VOTES).tobytes() for answer in answers]
        votes = [[(value, status) for value, status, _ in unpack_votes(one)] for one in packed]
        return [decide_one(self._parameters, ballots) for ballots in zip(*votes, strict=True)]

    def check(self, number: int, answer: Sequence[tuple[str, float]]) -> None:
        """Check for a value per attribute."""
        if not answer or not all(value for value, _ in answer):
            raise ValueError(f"decided {answer}")

    def status_of(self, error: BaseException) -> int:
        """The gRPC code."""
        if isinstance(error, InferenceServerException):
            name = str(error.status()).removeprefix("StatusCode.")
            return int(getattr(grpc.StatusCode, name, grpc.StatusCode.UNKNOWN).value[0])
        return int(grpc.StatusCode.UNKNOWN.value[0])

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()

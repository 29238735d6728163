# SPDX-License-Identifier: Apache-2.0
"""A client that asks every member of a tritonserver itself and counts their votes itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from quorum.serving.packing import unpack_votes
from quorum.voting.single import Parameters, decide_one
from quorum_bench.targets import CallerSpec
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.targets.triton_caller import METHOD, status_of
from quorum_bench.workload import Workload

_FACTORY = "quorum_bench.targets.fanout:FanoutCaller"


class FanoutTarget(QuorumTarget):
    """The members of a deployment without its ensemble: gate and vote stand idle."""

    def caller(self, workload: Workload) -> CallerSpec:
        """Asks all members at once and decides with equal weights."""
        specs = [self.member_caller(workload, member) for member in self.members]
        return CallerSpec(
            _FACTORY,
            {
                "url": self.url,
                "requests": [spec.settings["requests"] for spec in specs],
                "weights": [1.0] * len(specs),
                "timeout_s": specs[0].settings["timeout_s"],
            },
        )


class FanoutCaller:
    """One answer is ``N`` requests, their votes taken apart, and the decision rule for each attribute.

    Args:
        url: ``host:port``.
        requests: Per member, per product: a serialised request, in hex.
        weights: Per member.
        timeout_s: Of each request.
    """

    def __init__(
        self, url: str, requests: Sequence[Sequence[str]], weights: Sequence[float], timeout_s: float
    ) -> None:
        self._url, self._timeout_s = url, timeout_s
        by_product = zip(*requests, strict=True)
        self._requests = [[bytes.fromhex(request) for request in product] for product in by_product]
        self._parameters = Parameters(tuple(weights))
        self._channel: Any = None
        self._infer: Any = None

    async def open(self) -> None:
        """Connect; ask the first question."""
        self._channel = grpc.aio.insecure_channel(self._url)
        self._infer = self._channel.unary_unary(METHOD)
        self.check(0, await self.call(0))

    async def call(self, number: int) -> list[tuple[str, float]]:
        """Value and confidence of each attribute; the work on the answers counts, because it is the vote."""
        calls: list[Awaitable[bytes]] = [
            self._infer(request, timeout=self._timeout_s)
            for request in self._requests[number % len(self._requests)]
        ]
        votes = [_votes(answer) for answer in await asyncio.gather(*calls)]
        return [decide_one(self._parameters, ballots) for ballots in zip(*votes, strict=True)]

    def check(self, number: int, answer: Sequence[tuple[str, float]]) -> None:
        """A value per attribute."""
        if not answer or not all(value for value, _ in answer):
            raise ValueError(f"decided {answer}")

    def status_of(self, error: BaseException) -> int:
        """The gRPC code."""
        return status_of(error)

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()


def _votes(answer: bytes) -> list[tuple[str, int]]:
    return unpack_votes(pb.ModelInferResponse.FromString(answer).raw_output_contents[0])

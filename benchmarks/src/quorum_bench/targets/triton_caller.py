# SPDX-License-Identifier: Apache-2.0
"""Ask Triton over gRPC with requests serialised beforehand: little work per request."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from quorum.serving.packing import unpack_votes
from quorum_bench.targets import CallerSpec
from quorum_bench.workload import Workload
from quorum_contract import COST, MEMBER_USAGE, VALUES, VOTES
from quorum_contract.key import KEY_HEADER, key_value
from quorum_contract.tensors import ASKED, PACKED_QUESTION

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_FACTORY = "quorum_bench.targets.triton_caller:TritonCaller"


def triton_caller(
    url: str,
    model: str,
    workload: Workload,
    *,
    questions: Sequence[bytes] = (),
    timeout_s: float = 30.0,
    key: str | None = None,
) -> CallerSpec:
    """Return a caller of one model.

    Args:
        url: ``host:port``.
        model: A channel, or a member if ``questions`` are given.
        workload: The requests.
        questions: Per product the gate's packed question.
        timeout_s: Timeout of each call.
        key: Of a gateway; None: the server itself is asked.
    """
    messages = (
        [question_message(model, packed) for packed in questions]
        if questions
        else [message(model, p.text, p.category, p.attributes, timeout_s) for p in workload.products]
    )
    return CallerSpec(
        _FACTORY,
        {
            "url": url,
            "requests": [m.SerializeToString().hex() for m in messages],
            "attributes": [len(p.attributes) for p in workload.products],
            "timeout_s": timeout_s,
            "key": key,
        },
    )


def message(model: str, text: str, category: str, attributes: Sequence[str], timeout_s: float) -> Any:
    """Build a ``ModelInferRequest`` as the client package does."""
    request = pb.ModelInferRequest(model_name=model)
    request.parameters["timeout"].int64_param = int((timeout_s - min(0.25, timeout_s / 10)) * 1e6)
    for tensor, values in zip(ASKED, ([text], [category], attributes), strict=True):
        added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[len(values)])
        added.contents.bytes_contents.extend(value.encode() for value in values)
    return request


def question_message(model: str, packed: bytes) -> Any:
    """Build a ``ModelInferRequest`` as the ensemble sends it to a member."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name=PACKED_QUESTION.name, datatype=PACKED_QUESTION.datatype, shape=[len(packed)])
    request.raw_input_contents.append(packed)
    return request


def status_of(error: BaseException) -> int:
    """The gRPC code."""
    if isinstance(error, grpc.RpcError):
        return int(error.code().value[0])
    return int(grpc.StatusCode.UNKNOWN.value[0])


class TritonCaller:
    """Caller over gRPC; parses every 64th answer and only checks that the others are not empty.

    Attributes:
        took: Number of parsed answers of a channel that say it, their calls of members, and their cost.
    """

    def __init__(
        self,
        url: str,
        requests: Sequence[str],
        attributes: Sequence[int],
        timeout_s: float,
        key: str | None = None,
    ) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._metadata = [(KEY_HEADER, key_value(key))] if key else None
        self._requests = [bytes.fromhex(request) for request in requests]
        self._attributes = attributes
        self.took = [0.0, 0.0, 0.0]
        self._channel: Any = None
        self._infer: Any = None

    async def open(self) -> None:
        """Connect; ask the first question."""
        self._connect()
        self._parse(0, await self.call(0))

    def call(self, number: int) -> Awaitable[bytes]:
        """Send bytes, return bytes: nothing is parsed while the clock runs."""
        call: Awaitable[bytes] = self._infer(
            self._requests[number % len(self._requests)], timeout=self._timeout_s, metadata=self._metadata
        )
        return call

    def check(self, number: int, answer: bytes) -> None:
        """Check that the answer is not empty; every 64th: a value per attribute."""
        if not answer:
            raise ValueError("an empty answer")
        if number % 64 == 0:
            self._parse(number, answer)

    def status_of(self, error: BaseException) -> int:
        """The gRPC code."""
        return status_of(error)

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()

    def _connect(self) -> None:
        self._channel = grpc.aio.insecure_channel(self._url)
        self._infer = self._channel.unary_unary(METHOD)

    def _parse(self, number: int, answer: bytes) -> None:
        response = pb.ModelInferResponse.FromString(answer)
        contents = dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))
        shapes = {output.name: list(output.shape) for output in response.outputs}
        wanted = self._attributes[number % len(self._requests)]
        count = len(unpack_votes(contents[VOTES])) if VOTES in contents else shapes.get(VALUES, [0])[0]
        if count != wanted or not all(_elements(contents.get(VALUES, b""))):
            raise ValueError(f"{response.model_name} returned {shapes}, wanted {wanted} {VALUES}, none empty")
        if MEMBER_USAGE in contents and COST in contents:
            usage = np.frombuffer(contents[MEMBER_USAGE], np.float32).reshape(shapes[MEMBER_USAGE])
            cost = float(np.frombuffer(contents[COST], np.float32)[0])
            took = (1.0, float(usage[:, 0].sum()), cost)
            self.took = [before + more for before, more in zip(self.took, took, strict=True)]


def _elements(raw: bytes) -> Iterator[bytes]:
    """Split a BYTES tensor: a length before each element."""
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        yield raw[at + 4 : end]
        at = end

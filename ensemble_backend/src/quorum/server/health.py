# SPDX-License-Identifier: Apache-2.0
"""Call every step around the gate, as a probe does when the gate is full.

Every step returns from a call that bypasses the gate at once (a member abstains with ``REFUSED`` or
``TIMEOUT``), so calling each of them costs no LLM call. A step whose process is gone returns an error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.deployment.schema import Deployment
from quorum.serving.packing import Admitted, add_ticket, pack_question, pack_votes
from quorum_contract import ATTRIBUTES, CATEGORY, GATE, TEXT, VOTE, VOTES
from quorum_contract.tensors import ASKED, PACKED_QUESTION, PACKED_VOTES, Tensor


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step that failed a call; ``DEADLINE_EXCEEDED`` when it did not return: hung, or only busy."""

    code: grpc.StatusCode
    details: str

    def __str__(self) -> str:
        """Code and Triton's message."""
        return f"{self.code.name}: {self.details}"


def call_steps(
    spec: Deployment, url: str, vote_versions: Iterable[int | None], timeout_s: float
) -> dict[str, StepFailure]:
    """Call every step at once, bypassing the gate; model -> its failure, for those that failed.

    ``vote_versions`` are the versions of the vote to call, ``None`` the newest; the timeout is for all steps.
    """
    failures = {}
    with grpc.insecure_channel(url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        requests = [*_requests(spec, vote_versions)]
        futures = [stub.ModelInfer.future(request, timeout=timeout_s) for request in requests]
        for request, future in zip(requests, futures, strict=True):
            error = future.exception()
            if error is not None and error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                failures[request.model_name] = StepFailure(error.code(), error.details() or "")
    return failures


def _requests(spec: Deployment, vote_versions: Iterable[int | None]) -> Iterator[pb.ModelInferRequest]:
    texts = {TEXT: b"", CATEGORY: b"", ATTRIBUTES: b"probe"}
    elements = [(tensor, struct.pack("<I", len(texts[tensor.name])) + texts[tensor.name]) for tensor in ASKED]
    yield _request(GATE, "", elements)
    question = (PACKED_QUESTION, add_ticket(0, pack_question(Admitted("", "", ("probe",), 0))))
    for name in spec.models():
        yield _request(name, "", [question])
    packed = pack_votes([("", 0, None)])
    votes = [(PACKED_VOTES.named(f"{name}_{VOTES}"), packed) for name in spec.member_names]
    for version in vote_versions:
        yield _request(VOTE, str(version or ""), [question, *votes])


def _request(model: str, version: str, tensors: Sequence[tuple[Tensor, bytes]]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    for tensor, raw in tensors:
        shape = [len(raw)] if tensor.shape == ("BYTES",) else [1]
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        request.raw_input_contents.append(raw)
    return request

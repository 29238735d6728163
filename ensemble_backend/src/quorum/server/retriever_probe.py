# SPDX-License-Identifier: Apache-2.0
"""Ask a channel of the retriever for one keyphrase, to learn whether it answers, and with which version."""

from __future__ import annotations

import struct

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum_client import Overloaded, ServerError
from quorum_contract.errors import take_code
from quorum_contract.key import KEY_HEADER, key_value
from quorum_contract.tensors import RECOMMEND_ASKED, RETRIEVER_VERSION

_TEXT = b"quorum probe: is anybody there?"


def probe_retriever(spec: Deployment, url: str, channel: str, timeout_s: float = 20.0) -> int:
    """Ask a channel for one keyphrase, and return the version of the retriever that answered.

    Args:
        spec: The deployment; every one is asked alike.
        url: ``host:port``.
        channel: An ensemble that recommends keyphrases.
        timeout_s: How long to wait.

    Raises:
        quorum_client.Overloaded: The channel has no room.
        quorum_client.ServerError: It does not answer, or with something else.
    """
    request = pb.ModelInferRequest(model_name=channel)
    text, category = (struct.pack("<I", len(value)) + value for value in (_TEXT, b""))
    contents = (text, category, struct.pack("<i", 1), struct.pack("<f", -1.0))
    for tensor, content in zip(RECOMMEND_ASKED, contents, strict=True):
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[1])
        request.raw_input_contents.append(content)
    key = client_key()
    metadata = [(KEY_HEADER, key_value(key))] if key else None
    with grpc.insecure_channel(url) as connection:
        ask = GRPCInferenceServiceStub(connection).ModelInfer
        try:
            answer = ask(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            status, (why, code) = error.code().name, take_code(error.details() or "")
            message = f"{channel!r} at {url} recommends nothing: {why or status}"
            if code == Overloaded.code:
                raise Overloaded(message) from error
            raise ServerError(message, status=status, cause=code) from error
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=False):
        if output.name == RETRIEVER_VERSION and len(raw) == 8:
            return int(struct.unpack("<q", raw)[0])
    raise ServerError(f"{channel!r} at {url} does not say which version answered", status="INTERNAL")

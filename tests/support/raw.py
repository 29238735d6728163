# SPDX-License-Identifier: Apache-2.0
"""Requests below the client library: well-formed and malformed BYTES tensors over gRPC and HTTP."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from tritonclient.grpc import service_pb2 as pb


def bytes_tensor(elements: Sequence[bytes]) -> bytes:
    """Elements as Triton sends them: a 4-byte little-endian length before each."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


MALFORMED: dict[str, bytes] = {
    "length beyond the payload": struct.pack("<I", 10_000) + b"abc",
    "too few elements": b"",
    "two elements instead of one": bytes_tensor([b"a", b"b"]),
    "cut off inside the length": b"\x05\x00",
    "negative length": b"\xff\xff\xff\xff" + b"abc",
    "trailing bytes": bytes_tensor([b"shoe"]) + b"\x01",
    "not UTF-8": bytes_tensor([b"\xff\xfe shoe"]),
    "empty text": bytes_tensor([b""]),
}
"""Name -> raw buffer of a TEXT tensor that must be refused."""


def grpc_request(
    model: str, text: bytes, attributes: Sequence[bytes], category: bytes = b""
) -> pb.ModelInferRequest:
    """An inference request whose TEXT buffer is exactly ``text``."""
    request = pb.ModelInferRequest(model_name=model)
    for name, size in (("TEXT", 1), ("CATEGORY", 1), ("ATTRIBUTES", len(attributes))):
        request.inputs.add(name=name, datatype="BYTES", shape=[size])
    request.raw_input_contents.extend([text, bytes_tensor([category]), bytes_tensor(attributes)])
    return request


def http_request(
    text: bytes, attributes: Sequence[bytes], category: bytes = b""
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a binary HTTP inference request whose TEXT buffer is exactly ``text``."""
    buffers = {"TEXT": text, "CATEGORY": bytes_tensor([category]), "ATTRIBUTES": bytes_tensor(attributes)}
    sizes = {"TEXT": 1, "CATEGORY": 1, "ATTRIBUTES": len(attributes)}
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": [sizes[name]],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(buffer)},
                }
                for name, buffer in buffers.items()
            ]
        }
    ).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(header)),
        "Content-Type": "application/octet-stream",
    }
    return header + b"".join(buffers.values()), headers

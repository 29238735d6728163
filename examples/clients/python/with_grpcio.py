# SPDX-License-Identifier: Apache-2.0
"""Ask by gRPC alone: pip install grpcio protobuf; python with_grpcio.py HOST:PORT TEXT NAMES.

Make its messages first: protoc -I examples/clients --python_out=examples/clients/python inference.proto
"""

import os
import struct
import sys
from collections.abc import Iterator

import grpc
import inference_pb2 as pb


def strings(raw: bytes) -> Iterator[str]:
    """The elements of a BYTES tensor: a length of 4 bytes, little-endian, before each."""
    at = 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        yield raw[at + 4 : at + 4 + size].decode()
        at += 4 + size


def main() -> None:
    address, text, attributes = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
    request = pb.ModelInferRequest(model_name="quorum", id="example-1")
    request.parameters["timeout"].int64_param = 5_000_000  # microseconds, for the members
    for name, values in (("TEXT", [text]), ("CATEGORY", [""]), ("ATTRIBUTES", attributes)):
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(values)])
        tensor.contents.bytes_contents.extend(value.encode() for value in values)
    infer = grpc.insecure_channel(address).unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    key = os.environ.get("QUORUM_INFERENCE_KEY")
    try:
        answer = infer(request, timeout=6, metadata=[("authorization", f"Bearer {key}")] if key else None)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    raw = {output.name: answer.raw_output_contents[i] for i, output in enumerate(answer.outputs)}
    values, members, votes = (list(strings(raw[name])) for name in ("VALUES", "MEMBERS", "MEMBER_VALUES"))
    confidence = struct.unpack(f"<{len(values)}f", raw["CONFIDENCE"])
    status = struct.unpack(f"<{len(votes)}i", raw["MEMBER_STATUS"])
    for i, attribute in enumerate(attributes):
        print(f"{attribute} = {values[i]} ({confidence[i]:.2f})")
        for j, member in enumerate(members):
            print(f"  {member} {status[j * len(values) + i]} {votes[j * len(values) + i]}")
    print("version", struct.unpack("<q", raw["WEIGHTS_VERSION"])[0])


main()

# SPDX-License-Identifier: Apache-2.0
"""Random raw requests: good ones and what a caller may make of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from support.deployment import ATTRIBUTES, title
from support.mutate import damaged
from support.raw import MALFORMED, bytes_tensor, grpc_request
from tritonclient.grpc import service_pb2 as pb

from quorum.serving.packing import Admitted, add_ticket, pack_question, pack_votes
from quorum_contract import CANARY, GATE, QUESTION, STABLE, VOTE, VOTES

MEMBERS = ("alpha", "beta", "gamma")
DATATYPES = (
    "BYTES",
    "BYTES",
    "UINT8",
    "INT8",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BOOL",
    "",
    "TEXT",
    "bytes",
)
SIZES = (-1, 0, 1, 2, 3, 64, 65, 4_096, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63))
NAMES = (
    "TEXT",
    "CATEGORY",
    "ATTRIBUTES",
    QUESTION,
    f"alpha_{VOTES}",
    "VALUES",
    "",
    "text",
    "x" * 5_000,
    "é\0",
    "../x",
)
MODELS = (
    STABLE,
    STABLE,
    STABLE,
    CANARY,
    GATE,
    VOTE,
    *MEMBERS,
    "",
    "nobody",
    "../quorum",
    "q" * 5_000,
    "quorum\0",
)
VERSIONS = ("1", "2", "0", "-1", "x", "9" * 30, "1\0", "\u0661")
PARAMETERS = (
    "timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "binary_data",
    "binary_data_output", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset",
    "headers", "triton_grpc_error", "triton_enable_empty_final_response", "triton_final_response",
    "content-length", "quorum", "", "p" * 3_000,
)  # fmt: skip
NUMBERS = (0, 1, -1, 1_000, 1 << 31, 1 << 62, (1 << 63) - 1, -(1 << 63))
TEXTS = ("", "0", "1", "-1", "999999999999999999999", "true", "\0", "é" * 99, "t" * 20_000)
Damage = Callable[[random.Random, pb.ModelInferRequest], None]


def good(product: int = 1) -> pb.ModelInferRequest:
    text = bytes_tensor([title(product).encode()])
    return grpc_request(STABLE, text, [a.encode() for a in ATTRIBUTES], b"shoes" if product % 2 else b"")


def inner(draw: random.Random) -> pb.ModelInferRequest:
    """A request to a step behind the gate, as a caller who goes around it sends it."""
    question = pack_question(Admitted(title(1), "shoes", ATTRIBUTES, 1 << 62))
    body = add_ticket(draw.choice([0, draw.getrandbits(63)]), question)
    request = pb.ModelInferRequest(model_name=draw.choice([*MEMBERS, VOTE]))
    votes = pack_votes([("red", 0, -0.5)] * len(ATTRIBUTES))
    tensors = {QUESTION: body}
    if request.model_name == VOTE:
        tensors |= {f"{member}_{VOTES}": votes for member in MEMBERS}
    for name, data in tensors.items():
        sent = damaged(draw, data, draw.choice([1, 2])) if draw.random() < 0.6 else data
        request.inputs.add(name=name, datatype="UINT8", shape=[len(sent)])
        request.raw_input_contents.append(sent)
    return request


def set_parameter(draw: random.Random, parameters: object) -> None:
    parameter = parameters[draw.choice(PARAMETERS)]  # type: ignore[index]
    kind = draw.choice(["bool_param", "int64_param", "string_param", "double_param", "uint64_param"])
    value = {
        "bool_param": draw.choice([True, False]),
        "int64_param": draw.choice(NUMBERS),
        "string_param": draw.choice(TEXTS),
        "double_param": draw.choice([0.5, -1.0, 1e308, float("nan"), float("inf")]),
        "uint64_param": draw.choice([0, 1, (1 << 64) - 1]),
    }[kind]
    setattr(parameter, kind, value)


def to_model(draw: random.Random, request: pb.ModelInferRequest) -> None:
    request.model_name = draw.choice(MODELS)


def to_version(draw: random.Random, request: pb.ModelInferRequest) -> None:
    request.model_version = draw.choice(VERSIONS)


def with_id(draw: random.Random, request: pb.ModelInferRequest) -> None:
    request.id = draw.choice(TEXTS)


def with_parameter(draw: random.Random, request: pb.ModelInferRequest) -> None:
    set_parameter(draw, request.parameters)


def with_input_parameter(draw: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        set_parameter(draw, draw.choice(request.inputs).parameters)


def with_output(draw: random.Random, request: pb.ModelInferRequest) -> None:
    output = request.outputs.add(
        name=draw.choice(["VALUES", "CONFIDENCE", "VALUES", "MEMBER_SCORES", *NAMES])
    )
    if draw.random() < 0.5:
        set_parameter(draw, output.parameters)


def with_shape(draw: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        tensor = draw.choice(request.inputs)
        del tensor.shape[:]
        tensor.shape.extend(draw.choice(SIZES) for _ in range(draw.choice([0, 1, 1, 1, 2, 3, 200])))


def with_datatype(draw: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        draw.choice(request.inputs).datatype = draw.choice(DATATYPES)


def with_name(draw: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        draw.choice(request.inputs).name = draw.choice(NAMES)


def without_input(draw: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        at = draw.randrange(len(request.inputs))
        del request.inputs[at]
        if at < len(request.raw_input_contents) and draw.random() < 0.7:
            del request.raw_input_contents[at]


def with_input_again(draw: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        request.inputs.append(draw.choice(request.inputs))
        if draw.random() < 0.7:
            request.raw_input_contents.append(bytes_tensor([b"again"]))


def with_other_input(draw: random.Random, request: pb.ModelInferRequest) -> None:
    request.inputs.add(name=draw.choice(NAMES), datatype=draw.choice(DATATYPES), shape=[draw.choice(SIZES)])
    if draw.random() < 0.7:
        request.raw_input_contents.append(draw.randbytes(draw.choice([0, 1, 8, 4_096])))


def with_contents(draw: random.Random, request: pb.ModelInferRequest) -> None:
    """Typed contents, next to the raw ones or in their place."""
    if draw.random() < 0.6:
        del request.raw_input_contents[:]
    for tensor in request.inputs:
        match draw.randrange(5):
            case 0 | 1 | 2:
                tensor.contents.bytes_contents.extend([b"brand"] * draw.choice([1, 1, 2, 3]))
            case 3:
                tensor.contents.int64_contents.extend([1, -1])
            case _:
                tensor.contents.fp32_contents.append(float("nan"))


def with_buffer(draw: random.Random, request: pb.ModelInferRequest) -> None:
    if request.raw_input_contents:
        at = draw.randrange(len(request.raw_input_contents))
        data = request.raw_input_contents[at]
        request.raw_input_contents[at] = draw.choice(
            [
                damaged(draw, data, 1),
                damaged(draw, data, 3),
                draw.choice([*MALFORMED.values()]),
                b"\xff" * 70_000,
            ]
        )


def with_buffers(draw: random.Random, request: pb.ModelInferRequest) -> None:
    """One buffer more or less than inputs."""
    if draw.random() < 0.5:
        request.raw_input_contents.append(bytes_tensor([b"brand"]))
    elif request.raw_input_contents:
        del request.raw_input_contents[-1]


DAMAGE: tuple[Damage, ...] = (
    to_model, to_version, with_id, with_parameter, with_input_parameter, with_output, with_shape,
    with_datatype, with_name, without_input, with_input_again, with_other_input, with_contents, with_buffer,
    with_buffers, with_shape, with_buffer,
)  # fmt: skip


def hostile(draw: random.Random) -> pb.ModelInferRequest:
    request = inner(draw) if draw.random() < 0.2 else good(draw.randrange(24))
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        draw.choice(DAMAGE)(draw, request)
    return request

# SPDX-License-Identifier: Apache-2.0
"""The page of the wire contract and its proto agree with the contract and with Triton's own messages."""

from __future__ import annotations

import re

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from support.docs import ROOT
from tritonclient.grpc import service_pb2 as pb

from quorum_contract import CANCEL, CHANNELS, LAZY_CHANNELS, PRIORITY, RECOMMEND_CHANNELS, tensors
from quorum_contract.checks import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_CATEGORY_BYTES,
    MAX_TEXT_BYTES,
)

PAGE = ROOT / "docs" / "wire.md"
ERRORS = ROOT / "docs" / "errors.md"
PROTO = ROOT / "examples" / "clients" / "inference.proto"
TABLES = {
    "## A question": tensors.ASKED,
    "## An answer": (*tensors.ANSWERED, tensors.SHARE),
    "A question to `quorum_recommend`": tensors.RECOMMEND_ASKED,
    "Its answer has K": tensors.RECOMMENDED,
}
MESSAGE = re.compile(r"^( *)message (\w+) \{(?:\}|([^\n}]*)\}$|(.*?)^\1\})", re.S | re.M)
FIELD = re.compile(r"(repeated )?(map<\w+, \w+>|\w+) (\w+) = (\d+);")
TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
}


@pytest.mark.parametrize("place", TABLES)
def test_the_page_lists_the_tensors(place: str) -> None:
    text = PAGE.read_text("utf-8").partition(place)[2]
    table = re.split(r"\n\n", text[text.index("| tensor |") :])[0]
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `\[(.*)\]` \| (.*) \|$", table, re.M)
    assert rows == [(t.name, t.datatype, ", ".join(map(str, t.shape)), t.meaning) for t in TABLES[place]]


def test_the_page_names_limits_channels_and_parameters() -> None:
    text = PAGE.read_text("utf-8")
    limits = [
        int(number.replace(" ", "")) for number in re.findall(r"^\| `[A-Z]+` \| ([\d ]+\d) \w", text, re.M)
    ]
    assert limits == [MAX_TEXT_BYTES, MAX_CATEGORY_BYTES, MAX_ATTRIBUTES]
    assert f"names of {MAX_ATTRIBUTE_BYTES} bytes" in text
    for name in (*CHANNELS, *LAZY_CHANNELS, *RECOMMEND_CHANNELS, PRIORITY, CANCEL):
        assert f"`{name}`" in text, name


def test_the_page_names_codes_that_there_are() -> None:
    table = PAGE.read_text("utf-8").partition("## Refusals")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", table, re.M)
    assert {status for status, _ in rows} <= {status.name for status in grpc.StatusCode}
    codes = {code for _, cell in rows for code in re.findall(r"`([A-Z_]+)`", cell)}
    assert codes <= {*re.findall(r"^\| `([A-Z_]+)` \| `\w+` \|", ERRORS.read_text("utf-8"), re.M)}
    assert {"OVERLOADED", "INVALID_REQUEST", "UNAUTHENTICATED"} <= codes


def messages(text: str) -> dict[str, str]:
    """Each message of a proto file, also inner ones, and its own fields."""
    found = {}
    for _, name, short, long in MESSAGE.findall(text):
        inner = messages(long)
        found |= {f"{name}.{key}": value for key, value in inner.items()}
        found[name] = short + MESSAGE.sub("", long)
    return found


def kind(field: FieldDescriptor) -> str:
    """The type of a field as a proto file writes it."""
    if field.message_type is None:
        return TYPES[field.type]
    if field.message_type.GetOptions().map_entry:
        return "map<" + ", ".join(kind(part) for part in field.message_type.fields) + ">"
    return field.message_type.name


def described(name: str) -> Descriptor:
    first, *inner = name.split(".")
    descriptor = pb.DESCRIPTOR.message_types_by_name[first]
    return descriptor.nested_types_by_name[inner[0]] if inner else descriptor


def test_the_proto_has_tritons_messages() -> None:
    text = PROTO.read_text("utf-8")
    found = messages(text)
    assert {"ModelInferRequest", "ModelInferRequest.InferInputTensor", "ServerLiveRequest"} <= found.keys()
    for name, body in found.items():
        fields = {field.name: field for field in described(name).fields}
        for repeated, written, key, number in FIELD.findall(body):
            field = fields[key]
            many = field.is_repeated and not written.startswith("map")
            assert (written, int(number), bool(repeated)) == (kind(field), field.number, many), (
                f"{name}.{key}"
            )
    methods = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for name, asked, answered in re.findall(r"rpc (\w+)\((\w+)\) returns \((\w+)\)", text):
        assert (methods[name].input_type.name, methods[name].output_type.name) == (asked, answered)
    assert f"package {pb.DESCRIPTOR.package};" in text

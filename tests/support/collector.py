# SPDX-License-Identifier: Apache-2.0
"""A collector of spans, as OTLP over HTTP: from Triton as JSON, from steps and clients as protobuf."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.supervised import until


class Span(NamedTuple):
    """One span; ids in hexadecimal digits, times in nanoseconds since the epoch."""

    name: str
    trace: str
    id: str
    parent: str
    started: int
    ended: int
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]
    service: str


class Collector:
    """Holds what was sent to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Keep the spans of a request."""
        self.headers.append(headers)
        self.spans += _from_json(body) if "json" in headers["content-type"] else _from_protobuf(body)

    def of(self, trace: str) -> dict[str, list[Span]]:
        """The spans of a trace so far, by name."""
        found: dict[str, list[Span]] = {}
        for span in self.spans:
            if span.trace == trace:
                found.setdefault(span.name, []).append(span)
        return found

    def wait(self, trace: str, *names: str) -> dict[str, list[Span]]:
        """The spans of a trace, once there is one of each name."""
        found: dict[str, list[Span]] = until(lambda: (f := self.of(trace)).keys() >= {*names} and f, 60)
        return found


@contextmanager
def collector() -> Iterator[Collector]:
    """Receive spans at a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kept
        server.shutdown()


def _from_protobuf(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        service = _values(json_format.MessageToDict(resource.resource)["attributes"])["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Span(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.code == span.status.STATUS_CODE_ERROR,
                _values([json_format.MessageToDict(attribute) for attribute in span.attributes]),
                tuple(event.name for event in span.events),
                service,
            )


def _from_json(body: bytes) -> Iterator[Span]:
    # Ids are hexadecimal, as OTLP wants it and protobuf's own JSON does not.
    for resource in msgspec.json.decode(body)["resourceSpans"]:
        service = _values(resource["resource"]["attributes"])["service.name"]
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            yield Span(
                span["name"],
                span["traceId"],
                span["spanId"],
                span.get("parentSpanId", ""),
                int(span["startTimeUnixNano"]),
                int(span["endTimeUnixNano"]),
                span.get("status", {}).get("code") == 2,
                _values(span.get("attributes", [])),
                tuple(event["name"] for event in span.get("events", [])),
                service,
            )


def _values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {attribute["key"]: _value(attribute["value"]) for attribute in attributes}


def _value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "arrayValue":
        return [_value(element) for element in content.get("values", [])]
    return int(content) if kind == "intValue" else content

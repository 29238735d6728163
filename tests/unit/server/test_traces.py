# SPDX-License-Identifier: Apache-2.0
"""What deploy.yaml says of traces, for Triton and its steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError
from support.collector import collector
from support.deployment import FREE_PORTS, write_deployment

from quorum.deployment import load_deployment
from quorum.deployment.server import TracesSpec
from quorum.server import traces
from quorum.serving.tracing import TRACES, TraceSettings, Tracing, TracingError
from quorum_contract import Price
from quorum_contract.tracing import TRACE_PARENT

URL = "http://127.0.0.1:4318/v1/traces"


def test_triton_and_steps_get_the_same_collector(tmp_path: Path) -> None:
    server = {**FREE_PORTS, "traces": {"url": URL, "share": 0.3, "flush_s": 0.5, "service": "shop"}}
    members = {"alpha": {"price": {"per_call": 0.5}}, "beta": {}}
    spec = load_deployment(write_deployment(tmp_path, members, server=server))
    assert traces.options(spec.server.traces) == [
        "--trace-config=mode=opentelemetry",
        "--trace-config=rate=3",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=opentelemetry,url={URL}",
        "--trace-config=opentelemetry,resource=service.name=shop",
        "--trace-config=opentelemetry,bsp_schedule_delay=500",
    ]
    sent = msgspec.json.decode(traces.variables(spec)[TRACES], type=TraceSettings)
    assert (sent.url, sent.service, sent.flush_s) == (URL, "shop", 0.5)
    assert sent.prices["alpha"] == Price(per_call=0.5)


def test_without_traces_nothing_is_set(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    traces.check(None)
    assert traces.options(None) == []
    # Not one that the environment of `quorum up` has.
    assert traces.variables(spec) == {TRACES: ""}


@pytest.mark.parametrize(("share", "rate"), [(0, 0), (1, 1), (0.5, 2), (0.4, 2), (0.01, 100)])
def test_a_share_is_one_of_so_many(share: float, rate: int) -> None:
    assert TracesSpec(url=URL, share=share).rate == rate


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:4317", "write http://HOST:4318/v1/traces"),
        ("http://127.0.0.1:4318", "write http://HOST:4318/v1/traces"),
        ("grpc://collector:4317/x", "write http://HOST:4318/v1/traces"),
        ("http://user:key@collector:4318/v1/traces", "OTEL_EXPORTER_OTLP_HEADERS"),
        # Triton's command line, where all users of the machine could read it.
        ("http://collector:4318/v1/traces?api_key=SECRET", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://user:key@collector:x/v1/traces", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://collector:x/v1/traces", "write http://HOST:4318/v1/traces"),
        ("http://collector:65536/v1/traces", "write http://HOST:4318/v1/traces"),
        ("http://collector:4318/v1/tra ces", "write http://HOST:4318/v1/traces"),
        ("http://collector:4318/v1/traces\n", "write http://HOST:4318/v1/traces"),
        ("http://collector:4318/v1/traces\0", "write http://HOST:4318/v1/traces"),
        ("http://[::1/v1/traces", "write http://HOST:4318/v1/traces"),
    ],
)
def test_an_address_that_cannot_be(url: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TracesSpec(url=url)


def test_a_server_does_not_start_traced_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    traces.check(TracesSpec(url=URL))
    monkeypatch.setattr(traces, "_PACKAGE", "opentelemetry_that_is_not_here.exporter")
    with pytest.raises(TracingError, match=r"pip install 'quorum\[otel\]'"):
        traces.check(TracesSpec(url=URL))


class Traced:
    """A request that Triton traces, with or without its caller's parameter."""

    def __init__(self, context: str | None = None, parameter: str | None = None) -> None:
        self._context = context and json.dumps({"traceparent": context})
        self._parameters = json.dumps({TRACE_PARENT: parameter} if parameter else {})

    def parameters(self) -> str:
        return self._parameters

    def request_id(self) -> str:
        return "r"

    def trace(self) -> Traced:
        return self

    def get_context(self) -> str | None:
        return self._context


TRITONS = f"00-{'a' * 32}-{'b' * 16}-01"
CALLERS = f"00-{'a' * 32}-{'c' * 16}-01"
OTHER = f"00-{'d' * 32}-{'e' * 16}-01"


@pytest.mark.parametrize(
    ("context", "parameter", "parent"),
    [
        (TRITONS, None, "b"),
        (TRITONS, CALLERS, "b"),
        # Triton lost the header, and traces the request by its share.
        (OTHER, CALLERS, "c"),
        (None, CALLERS, "c"),
        (None, None, None),
        (None, "nonsense", None),
    ],
)
def test_a_step_goes_on_from_tritons_span_of_the_callers_trace(
    context: str | None, parameter: str | None, parent: str | None
) -> None:
    with collector() as kept:
        tracing = Tracing(TraceSettings(kept.url, "quorum", 60.0))
        tracing.end(tracing.begin(Traced(context, parameter)), "vote", lambda: ({}, ""))
        tracing.close()
        assert [(span.trace, span.parent) for span in kept.spans] == (
            [("a" * 32, parent * 16)] if parent else []
        )


@pytest.mark.parametrize(
    ("context", "parameters"),
    [
        (None, {"quorum_priority": TRACE_PARENT}),
        (None, {TRACE_PARENT: 7}),
        ("nonsense", {TRACE_PARENT: CALLERS}),
    ],
)
def test_a_trace_that_cannot_be_read_is_no_fault_of_a_request(
    context: str | None, parameters: dict[str, Any]
) -> None:
    request = Traced(context)
    request._parameters = json.dumps(parameters)
    tracing = Tracing(TraceSettings("http://127.0.0.1:1/v1/traces", "quorum", 60.0))
    assert tracing.begin(request).request_id == "r"
    tracing.close()


def test_what_cannot_be_recorded_is_no_fault_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """Neither an attribute that cannot be read, nor a collector that is away, whose end is not waited for."""
    tracing = Tracing(TraceSettings("http://127.0.0.1:1/v1/traces", "quorum", 60.0))
    begun = tracing.begin(Traced(TRITONS))
    tracing.end(begun, "vote", lambda: ({}, ""))

    def broken() -> tuple[dict[str, str], str]:
        raise ValueError("unreadable")

    tracing.end(begun, "vote", broken)
    assert "vote: a span could not be recorded" in caplog.text
    tracing.close()

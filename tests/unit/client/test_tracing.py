# SPDX-License-Identifier: Apache-2.0
"""Spans of both clients: each attempt is one, and the server gets the context of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.both_clients import FULL

import quorum_client as qc
from quorum_client import Item
from quorum_contract.tracing import TRACE_PARENT


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What this process records; a provider can be set but once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def spans_of(recorded: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """The spans of a name, the first to end first."""
    return [span for span in recorded.get_finished_spans() if span.name == name]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parents(spans: list[ReadableSpan]) -> set[int | None]:
    return {span.parent and span.parent.span_id for span in spans}


def own_span(headers: dict[str, str]) -> int:
    """The span that a ``traceparent`` names."""
    return int(headers["traceparent"].split("-")[2], 16)


def test_each_attempt_is_a_span_whose_context_its_server_gets(
    triton: Any, make: Any, recorded: InMemorySpanExporter
) -> None:
    triton.faults = [FULL]
    with trace.get_tracer("caller").start_as_current_span("page"):
        make(triton.url, traces=True).extract("t", ["a"], request_id="r1")
    (page,), (call,) = spans_of(recorded, "page"), spans_of(recorded, "quorum extract")
    refused, answered = spans_of(recorded, "quorum request")
    assert parents([call]) == {id_of(page)}
    assert parents([refused, answered]) == {id_of(call)}
    assert [own_span(headers) for headers in triton.headers] == [id_of(refused), id_of(answered)]
    assert (refused.attributes or {})["error.type"] == qc.Overloaded.code
    assert (answered.attributes or {})["quorum.used"] is True
    assert call.status.is_ok
    assert dict(call.attributes or {}) == {
        "quorum.channel": "quorum", "quorum.request_id": "r1", "quorum.weights_version": 7
    }  # fmt: skip
    assert [event.name for event in call.events] == ["waits before it is sent again"]


def test_a_hedge_is_a_span_and_the_loser_is_not_used(
    triton: Any, others: Any, make: Any, recorded: InMemorySpanExporter
) -> None:
    triton.delay_s = lambda request: 60.0
    make([triton.url, others[0].url], hedge_s=0.05, traces=True).extract("t", ["a"])
    (call,) = spans_of(recorded, "quorum extract")
    found = {
        dict(span.attributes or {})["quorum.hedge"]: span for span in spans_of(recorded, "quorum request")
    }
    assert parents([*found.values()]) == {id_of(call)}
    assert (found[True].attributes or {}).get("quorum.used") is True
    assert "quorum.used" not in (found[False].attributes or {})
    assert own_span(others[0].headers[0]) == id_of(found[True])


def test_a_call_that_fails_is_an_error(triton: Any, make: Any, recorded: InMemorySpanExporter) -> None:
    triton.always = FULL
    with pytest.raises(qc.Overloaded):
        make(triton.url, traces=True, retries=False).extract("t", ["a"])
    (call,) = spans_of(recorded, "quorum extract")
    assert call.status.status_code is trace.StatusCode.ERROR
    assert (call.attributes or {})["error.type"] == qc.Overloaded.code


def test_the_stable_channel_instead_of_the_canary_is_an_event(
    triton: Any, make: Any, recorded: InMemorySpanExporter
) -> None:
    triton.refuse = {"quorum_canary": (qc_status("NOT_FOUND"), "unknown model")}
    make(triton.url, traces=True, canary_share=1.0).extract("t", ["a"])
    (call,) = spans_of(recorded, "quorum extract")
    assert [event.name for event in call.events] == ["the stable channel is asked instead"]
    assert (call.attributes or {})["quorum.channel"] == "quorum"


def qc_status(name: str) -> Any:
    import grpc

    return grpc.StatusCode[name]


def test_a_traceparent_in_the_headers_is_the_parent(
    triton: Any, make: Any, recorded: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "x-mine": "1"}
    make(triton.url, traces=True).extract("t", ["a"], headers=headers)
    (call,), (request,) = spans_of(recorded, "quorum extract"), spans_of(recorded, "quorum request")
    assert parents([call]) == {int("b" * 16, 16)}
    (sent,) = triton.headers
    assert sent["traceparent"] == f"00-{'a' * 32}-{id_of(request):016x}-01"
    assert sent["x-mine"] == "1"
    assert triton.requests[0].parameters[TRACE_PARENT].string_param == sent["traceparent"]


def test_a_server_with_a_key_gets_the_same(triton: Any, make: Any, recorded: InMemorySpanExporter) -> None:
    make(triton.url, traces=True, key="k" * 32).extract("t", ["a"])
    given = triton.requests[0].parameters[TRACE_PARENT].string_param
    assert given == triton.headers[0]["traceparent"]


def test_the_server_is_not_named_a_parent_that_is_not_sampled(
    triton: Any, make: Any, recorded: InMemorySpanExporter
) -> None:
    """Triton would trace the request all the same."""
    make(triton.url, traces=True).extract("t", ["a"], headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"})
    assert "traceparent" not in triton.headers[0]
    assert not recorded.get_finished_spans()


def test_products_of_a_run_are_below_the_callers_span(
    triton: Any, make: Any, recorded: InMemorySpanExporter
) -> None:
    with trace.get_tracer("caller").start_as_current_span("run"):
        make(triton.url, traces=True).many([Item(str(n), ["a"]) for n in range(4)])
    assert parents(spans_of(recorded, "quorum extract")) == {id_of(spans_of(recorded, "run")[0])}
    assert len(spans_of(recorded, "quorum extract")) == 4


def test_without_the_extra_the_client_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    qc.Client("localhost:1").close()
    with pytest.raises(qc.InvalidRequest, match=r"pip install 'quorum-client\[otel\]'"):
        qc.Client("localhost:1", traces=True)

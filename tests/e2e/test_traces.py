# SPDX-License-Identifier: Apache-2.0
"""Spans of a request through client, Triton and steps, received from a real server; its log as JSON."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from support.collector import Collector, Span, collector
from support.deployment import FREE_PORTS, title, write_deployment
from support.raw import bytes_tensor, grpc_request
from support.supervised import Supervised, supervised, until
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.gateway.keys import add_caller
from quorum_client import AsyncClient, Client, Item
from quorum_client.errors import InvalidRequest
from quorum_contract.names import PROBE_TEXT
from quorum_contract.tracing import TRACE_PARENT

MEMBERS: dict[str, dict[str, Any]] = {
    "alpha": {"price": {"per_call": 0.5}, "options": {"prompt_tokens": 120, "answer_tokens": 7}},
    "beta": {},
    # It abstains from everything, and its step logs why.
    "gamma": {"options": {"fail_share": 1.0}},
}
ASKED = ("brand", "size")
HEADER = "x-collector-key"


@dataclass
class Traced:
    """A served deployment that is traced, its collector, and the lines that `quorum up` wrote."""

    served: Supervised
    collector: Collector
    key: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.served.running.endpoint.grpc_url


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Requests are traced only where the caller wants it, so that each test knows its own."""
    folder = tmp_path_factory.mktemp("traced")
    with collector() as kept, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"{HEADER}=secret")
        traces = {"url": kept.url, "share": 0, "flush_s": 0.1}
        log = {"path": "requests.jsonl"}
        gateway = {"grpc_port": 0, "http_port": 0, "request_log": log, "follow_traces": True}
        write_deployment(folder, MEMBERS, server={**FREE_PORTS, "traces": traces}, gateway=gateway)
        key = add_caller(folder / "keys.json", "shop", ("extract",))
        with supervised(folder, "--log-format", "json") as served:
            found = Traced(served, kept, key)
            reader = threading.Thread(target=_read, args=(served, found.lines), daemon=True)
            reader.start()
            yield found


def _read(served: Supervised, lines: list[dict[str, Any]]) -> None:
    assert served.process.stderr is not None
    lines.extend(json.loads(line) for line in served.process.stderr)


@pytest.fixture(scope="module")
def tracer(traced: Traced) -> Iterator[trace.Tracer]:
    """A caller's own, which sends its spans to the same collector."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(traced.collector.url)))
    with pytest.MonkeyPatch.context() as patch:
        # It can be set but once.
        patch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
        yield provider.get_tracer("caller")


def trace_of(span: trace.Span) -> str:
    """The trace id of a span."""
    return f"{span.get_span_context().trace_id:032x}"


STEPS = ("gate", "vote", *[f"member {name}" for name in MEMBERS])
MODELS = ("quorum_gate", "quorum_vote", *MEMBERS)


def test_a_request_is_one_tree_from_the_caller_to_the_vote(traced: Traced, tracer: trace.Tracer) -> None:
    pages = []
    with Client(traced.url, traces=True) as client:
        # Triton misreads a few headers in a hundred, and records nothing of those requests.
        for _ in range(6):
            with tracer.start_as_current_span("page") as page:
                answer = client.extract(title(1), ASKED, category="shoes", request_id="one-tree")
            pages.append(page)

    def by_triton() -> trace.Span | None:
        return next((page for page in pages if "InferRequest" in traced.collector.of(trace_of(page))), None)

    page = until(by_triton, 60)
    spans = traced.collector.wait(trace_of(page), *STEPS, *MODELS, "InferRequest", "quorum", "page")
    by_id = {span.id: span for found in spans.values() for span in found}

    def above(span: Span) -> list[str]:
        """Names of its ancestors, the nearest first."""
        found = by_id.get(span.parent)
        return [found.name, *above(found)] if found else []

    root = ["quorum", "InferRequest", "quorum request", "quorum extract", "page"]
    for step, model in zip(STEPS, MODELS, strict=True):
        (span,) = spans[step]
        assert above(span) == [model, *root]
        assert span.attributes["quorum.request_id"] == "one-tree"
        assert by_id[span.parent].started <= span.started <= span.ended
        assert span.service == "quorum"
    (vote,), (gate,) = spans["vote"], spans["gate"]
    assert gate.ended <= vote.started
    assert gate.attributes["quorum.outcome"] == "admitted"
    assert [span.attributes["quorum.probe"] for span in (gate, vote)] == [False, False]
    assert vote.attributes["quorum.weights_version"] == answer.weights_version
    assert vote.attributes["quorum.decision.status"] == ["DECIDED", "DECIDED"]
    assert vote.attributes["quorum.decision.confidence"] == pytest.approx(
        [a.confidence for a in answer.answers]
    )
    (request,), (extract,) = spans["quorum request"], spans["quorum extract"]
    assert request.attributes["quorum.used"] is True
    assert request.attributes["server.address"] == traced.url
    assert extract.attributes["quorum.weights_version"] == answer.weights_version


def test_steps_go_on_from_the_caller_where_triton_loses_the_header(traced: Traced) -> None:
    with grpc.insecure_channel(traced.url) as channel:
        request = grpc_request("quorum", bytes_tensor([title(1).encode()]), [b"brand"], b"shoes")
        request.parameters[TRACE_PARENT].string_param = f"00-{'c' * 32}-{'d' * 16}-01"
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
    spans = traced.collector.wait("c" * 32, *STEPS)
    assert {span.parent for found in spans.values() for span in found} == {"d" * 16}
    assert spans.keys() == {*STEPS}


def test_a_members_span_says_what_it_voted_and_took(traced: Traced, tracer: trace.Tracer) -> None:
    with Client(traced.url, traces=True) as client, tracer.start_as_current_span("page") as page:
        client.extract(title(1), ASKED, category="shoes")
    spans = traced.collector.wait(trace_of(page), *STEPS)
    (alpha,), (gamma,) = spans["member alpha"], spans["member gamma"]
    votes = alpha.attributes
    assert votes["quorum.attributes"] == [*ASKED]
    assert votes["quorum.vote.status"] == ["ANSWERED"] * 2
    assert not votes["quorum.abstains"]
    assert not alpha.failed
    assert (votes["quorum.calls"], votes["quorum.cost"]) == (1, 0.5)
    assert (votes["gen_ai.usage.input_tokens"], votes["gen_ai.usage.output_tokens"]) == (120, 7)
    assert gamma.failed
    assert gamma.attributes["quorum.abstains"]
    assert gamma.attributes["quorum.vote.status"] == ["ERROR"] * 2
    texts = json.dumps([span.attributes for found in spans.values() for span in found])
    assert "product 1" not in texts
    assert "brand-1" not in texts


def test_a_refusal_is_an_error_of_the_gates_span(traced: Traced, tracer: trace.Tracer) -> None:
    with Client(traced.url, traces=True) as client, tracer.start_as_current_span("page") as page:
        call = client._connection.call("text", ["brand"], "", 30.0, None, None)
        # Past the client's own check.
        call.message.inputs[0].contents.bytes_contents[0] = b" "
        with pytest.raises(InvalidRequest):
            client._send(call)
    spans = traced.collector.wait(trace_of(page), "gate", "quorum extract")
    (gate,), (extract,), (request,) = spans["gate"], spans["quorum extract"], spans["quorum request"]
    assert gate.failed
    assert gate.attributes["quorum.outcome"] == "invalid_request"
    assert extract.failed
    assert request.failed
    assert extract.attributes["error.type"] == InvalidRequest.code
    assert not spans.keys() & {"vote", "member alpha"}


def test_a_probe_is_marked_and_its_members_are_no_errors(traced: Traced, tracer: trace.Tracer) -> None:
    with Client(traced.url, traces=True) as client, tracer.start_as_current_span("page") as page:
        client.extract(PROBE_TEXT, ASKED, members_timeout_s=0)
    spans = traced.collector.wait(trace_of(page), *STEPS)
    found = [spans[step][0] for step in STEPS]
    assert all(span.attributes["quorum.probe"] for span in found)
    assert not any(span.failed for span in found)


def test_who_does_not_sample_leaves_no_span(traced: Traced, tracer: trace.Tracer) -> None:
    flags = trace.TraceFlags(0)
    parent = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=flags))
    with Client(traced.url) as untraced, Client(traced.url, traces=True) as client:
        untraced.extract(title(2), ASKED)
        with trace.use_span(parent):
            client.extract(title(2), ASKED)
        # What was sent before has arrived once this has.
        with tracer.start_as_current_span("later") as later:
            client.extract(title(3), ASKED)
    traced.collector.wait(trace_of(later), *STEPS, "later")
    assert not traced.collector.of(f"{0xABC:032x}")
    # One that Triton chose would begin a trace.
    assert not [span for span in traced.collector.spans if span.service == "quorum" and not span.parent]


async def _ask_many(url: str) -> None:
    async with AsyncClient(url, traces=True) as client:
        async for _ in client.extract_as_completed([Item(title(n), ASKED) for n in range(2)]):
            pass


def test_products_of_a_run_are_children_of_the_callers_span(traced: Traced, tracer: trace.Tracer) -> None:
    import asyncio

    with tracer.start_as_current_span("run") as run:
        with Client(traced.url, traces=True) as client:
            list(client.extract_many([Item(title(n), ASKED) for n in range(3)]))
        asyncio.run(_ask_many(traced.url))
    spans = traced.collector.wait(trace_of(run), *STEPS, "run")
    assert {span.parent for span in spans["quorum extract"]} == {spans["run"][0].id}
    assert len(spans["quorum extract"]) == 5
    until(lambda: len(traced.collector.of(trace_of(run))["vote"]) == 5)


def test_triton_and_steps_send_the_collectors_key(traced: Traced, tracer: trace.Tracer) -> None:
    # Triton misreads a few headers in a hundred, and records nothing of those requests.
    with Client(traced.url, traces=True) as client, tracer.start_as_current_span("page") as page:
        for _ in range(6):
            client.extract(title(1), ASKED)
    traced.collector.wait(trace_of(page), *STEPS, "InferRequest")
    sent = {(headers["content-type"], headers.get(HEADER)) for headers in traced.collector.headers}
    assert sent == {("application/json", "secret"), ("application/x-protobuf", "secret")}


def test_the_log_is_lines_of_json_with_the_ids_of_the_request(traced: Traced, tracer: trace.Tracer) -> None:
    with Client(traced.url, traces=True) as client, tracer.start_as_current_span("page") as page:

        def logged() -> dict[str, Any] | None:
            client.extract(title(1), ASKED, request_id="logged")
            return next((line for line in [*traced.lines] if line.get("trace_id") == trace_of(page)), None)

        # One line a second of each fault.
        line = until(logged)
    assert line["level"] == "error"
    assert line["logger"] == "quorum.serving.answering"
    assert (line["step"], line["member"], line["request_id"]) == ("gamma", "gamma", "logged")
    assert "rehearsed failure" in line["error"]
    triton = [line for line in traced.lines if line["logger"] == "triton"]
    assert any("Started GRPCInferenceService" in line["message"] and line["place"] for line in triton)
    notes = [line["message"] for line in traced.lines if line["logger"] == "quorum"]
    assert any(note.startswith("serving deploy.yaml at") for note in notes)
    log = (Path(traced.served.spec.root) / ".quorum" / "server.log").read_text("utf-8")
    wrapped = [line["message"] for line in traced.lines if line["logger"] == "server"]
    assert all(text in log for text in wrapped)


def through_grpc(traced: Traced, parent: str) -> None:
    """Ask the gateway as a client that sends the parameter too; the one here names a trace of its own."""
    request = grpc_request("quorum", bytes_tensor([title(1).encode()]), [b"brand"], b"shoes")
    request.parameters[TRACE_PARENT].string_param = f"00-{'e' * 32}-{'f' * 16}-01"
    headers = [("traceparent", parent), ("authorization", f"Bearer {traced.key}")]
    with grpc.insecure_channel(str(traced.served.running.endpoint.gateway)) as channel:
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60, metadata=headers)


def through_http(traced: Traced, parent: str) -> None:
    """Ask the gateway about a product."""
    url = f"http://{traced.served.running.endpoint.gateway_http}/v1/extract"
    body = json.dumps({"text": title(1), "attributes": ["brand"]}).encode()
    headers = {
        "traceparent": parent,
        "authorization": f"Bearer {traced.key}",
        "content-type": "application/json",
    }
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        answer.read()


@pytest.mark.parametrize("ask", [through_grpc, through_http])
def test_the_gateway_is_part_of_the_tree(traced: Traced, ask: Callable[[Traced, str], None]) -> None:
    mark = "1" if ask is through_grpc else "2"
    # Triton misreads a few headers in a hundred, and records nothing of those requests.
    ids = [f"{number:02d}{mark * 30}" for number in range(10, 16)]
    for trace_id in ids:
        ask(traced, f"00-{trace_id}-{'d' * 16}-01")

    def by_triton() -> str | None:
        return next((found for found in ids if "InferRequest" in traced.collector.of(found)), None)

    trace_id = until(by_triton, 60)
    spans = traced.collector.wait(trace_id, *STEPS, *MODELS, "InferRequest", "quorum", "gateway")
    by_id = {span.id: span for found in spans.values() for span in found}

    def above(span: Span) -> list[str]:
        found = by_id.get(span.parent)
        return [found.name, *above(found)] if found else []

    for step, model in zip(STEPS, MODELS, strict=True):
        assert above(spans[step][0]) == [model, "quorum", "InferRequest", "gateway"]
    (gateway,) = spans["gateway"]
    assert gateway.parent == "d" * 16
    assert (gateway.attributes["quorum.caller"], gateway.attributes["quorum.channel"]) == ("shop", "quorum")
    assert not gateway.failed
    # Steps of all of them, also where Triton lost the header.
    for found in ids:
        traced.collector.wait(found, *STEPS, "gateway")
    assert not traced.collector.of("e" * 32)
    if ask is through_http:
        log = (Path(traced.served.spec.root) / "requests.jsonl").read_text("utf-8")
        assert [json.loads(line)["trace_id"] for line in log.splitlines()] == ids


@pytest.mark.parametrize("by", ["key", "headers"])
def test_a_traced_client_may_name_its_key_in_either_way(
    traced: Traced, tracer: trace.Tracer, by: str
) -> None:
    url = str(traced.served.running.endpoint.gateway)
    own: dict[str, Any] = {
        "key": {"key": traced.key},
        "headers": {"headers": {"authorization": f"Bearer {traced.key}"}},
    }[by]
    with Client(url, traces=True, **own) as client, tracer.start_as_current_span("page") as page:
        client.extract(title(1), ASKED)
    spans = traced.collector.wait(trace_of(page), "gateway", "quorum request", *STEPS)
    assert spans["gateway"][0].parent == spans["quorum request"][0].id


def test_an_error_of_the_server_is_that_of_the_gateways_span(traced: Traced) -> None:
    trace_id = "3" * 32
    request = grpc_request("quorum", bytes_tensor([b" "]), [b"brand"])
    headers = [("traceparent", f"00-{trace_id}-{'d' * 16}-01"), ("authorization", f"Bearer {traced.key}")]
    with (
        grpc.insecure_channel(str(traced.served.running.endpoint.gateway)) as channel,
        pytest.raises(grpc.RpcError),
    ):
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60, metadata=headers)
    (gateway,) = traced.collector.wait(trace_id, "gateway", "gate")["gateway"]
    assert gateway.failed
    assert gateway.attributes["error.type"] == InvalidRequest.code


def test_the_trace_settings_of_the_server_are_closed_to_callers(traced: Traced) -> None:
    with grpc.insecure_channel(traced.url) as channel, pytest.raises(grpc.RpcError) as refused:
        GRPCInferenceServiceStub(channel).TraceSetting(pb.TraceSettingRequest(), timeout=30)
    assert "restricted" in str(refused.value.details())

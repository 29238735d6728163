# SPDX-License-Identifier: Apache-2.0
"""What goes on with a request through a process before the server, and the span of that."""

from __future__ import annotations

import pytest
from support.collector import collector
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.hops import Hops
from quorum.gateway.settings import Traces
from quorum_contract.tracing import TRACE_PARENT

TRACE, SPAN = "a" * 32, "b" * 16
ASKED = pb.ModelInferRequest(
    id="r", parameters={"quorum_priority": pb.InferParameter(string_param="bulk")}
).SerializeToString()
SAMPLED = ("traceparent", f"00-{TRACE}-{SPAN}-01")
NOT_SAMPLED = ("traceparent", f"00-{TRACE}-{SPAN}-00")
STATE = ("tracestate", "vendor=1")


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([SAMPLED, STATE, ("x-other", "1")], (SAMPLED, STATE)),
        ([NOT_SAMPLED, STATE], ()),
        ([SAMPLED, SAMPLED], ()),
        ([("traceparent", "nonsense")], ()),
        ([("traceparent", f"00-{'0' * 32}-{SPAN}-01")], ()),
        ([SAMPLED, ("tracestate", "vendor=\xe9")], (SAMPLED,)),
        ([SAMPLED, ("tracestate", "v=" + "1" * 600)], (SAMPLED,)),
        ([], ()),
    ],
)
def test_without_spans_only_a_sampled_parent_of_a_trusted_caller_goes_on(
    given: list[tuple[str, str]], passed: tuple[tuple[str, str], ...]
) -> None:
    with Hops(None, trusts_callers=True).hop("ModelInfer", given) as hop:
        assert hop.metadata == passed
        message = pb.ModelInferRequest.FromString(hop.message(ASKED))
        assert message.id == "r"
        assert {n: p.string_param for n, p in message.parameters.items()} == (
            {"quorum_priority": "bulk", TRACE_PARENT: passed[0][1]} if passed else {"quorum_priority": "bulk"}
        )
        assert hop.trace_id == (TRACE if passed else "")
    with Hops(None, trusts_callers=False).hop("ModelInfer", given) as hop:
        assert hop.metadata == ()


def test_the_span_of_a_trusted_callers_request_is_the_parent_of_the_next() -> None:
    with collector() as kept:
        hops = Hops(Traces(kept.url, "gateway", 0.1, 0), trusts_callers=True)
        with hops.hop("ModelInfer", [SAMPLED]) as hop:
            hop.set("quorum.key", "shop")
            hop.failed("OVERLOADED", "full")
        with hops.hop("ModelInfer", [NOT_SAMPLED]) as dropped:
            assert dropped.metadata == ()
        with hops.hop("ModelInfer", []) as untraced:
            assert untraced.metadata == ()
        hops.close()
        (span,) = kept.spans
    assert (span.trace, span.parent, span.service) == (TRACE, SPAN, "gateway")
    assert span.failed
    assert span.attributes == {"quorum.key": "shop", "error.type": "OVERLOADED"}
    assert hop.metadata == (("traceparent", f"00-{TRACE}-{span.id}-01"),)
    assert hop.trace_id == TRACE


def test_of_strangers_a_share_is_traced_each_in_a_trace_of_its_own() -> None:
    with collector() as kept:
        hops = Hops(Traces(kept.url, "gateway", 0.1, 0.5), trusts_callers=False)
        for _ in range(200):
            with hops.hop("ModelInfer", [SAMPLED]) as hop:
                assert hop.trace_id != TRACE
        hops.close()
    assert 60 <= len({span.trace for span in kept.spans}) <= 140
    assert {span.parent for span in kept.spans} == {""}


def test_an_exception_is_an_error_of_the_span() -> None:
    with collector() as kept:
        hops = Hops(Traces(kept.url, "gateway", 0.1, 1), trusts_callers=False)
        with pytest.raises(RuntimeError), hops.hop("ModelInfer", []):
            raise RuntimeError("broke")
        hops.close()
        (span,) = kept.spans
    assert span.failed
    assert span.attributes["error.type"] == "RuntimeError"

# SPDX-License-Identifier: Apache-2.0
"""Metrics as text, in both formats."""

from __future__ import annotations

from quorum.server.exposition import exposition


def test_counters_gauges_and_histograms_are_written() -> None:
    numbers = {
        ("quorum_requests_total", ("quorum", "answered")): 3.0,
        ("quorum_in_flight", ()): 2.0,
        ("quorum_confidence", ("quorum", "0.5")): 1.0,
        ("quorum_confidence", ("quorum", "+Inf")): 2.0,
        ("quorum_confidence", ("quorum", "sum")): 1.75,
    }
    plain = exposition(numbers).splitlines()
    assert 'quorum_requests_total{channel="quorum",outcome="answered"} 3.0' in plain
    assert "# TYPE quorum_requests_total counter" in plain
    assert "quorum_in_flight 2.0" in plain
    assert [line for line in plain if line.startswith("quorum_confidence")] == [
        'quorum_confidence_bucket{channel="quorum",le="0.5"} 1.0',
        'quorum_confidence_bucket{channel="quorum",le="+Inf"} 3.0',
        'quorum_confidence_sum{channel="quorum"} 1.75',
        'quorum_confidence_count{channel="quorum"} 3.0',
    ]
    open_metrics = exposition(numbers, open_metrics=True).splitlines()
    assert "# TYPE quorum_requests counter" in open_metrics
    assert open_metrics[-1] == "# EOF"


def test_labels_are_escaped() -> None:
    text = exposition({("quorum_decisions_total", ('a "b"\\\n', "value")): 1.0})
    assert r'{attribute="a \"b\"\\\n",outcome="value"} 1.0' in text

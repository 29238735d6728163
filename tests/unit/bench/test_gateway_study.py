# SPDX-License-Identifier: Apache-2.0
"""The lines of the gateway's study, and what it says of the figures wanted."""

from __future__ import annotations

from quorum_bench.studies.gateway import HEAD, line, summary


def row(deployment, callers, direct_ms, added_ms, cpu_ms):
    run = {"per_s": 100.0, "p50_ms": direct_ms, "p99_ms": 2 * direct_ms}
    figure = {"low": 0.0, "high": 9.0}
    return {
        "deployment": deployment,
        "callers": callers,
        "pairs": 3,
        "direct": run,
        "gateway": run | {"p50_ms": direct_ms + added_ms},
        "added_p50_ms": figure | {"value": added_ms},
        "gateway_cpu_ms": figure | {"value": cpu_ms},
        "ratio": {"p50_ms": figure | {"value": 1 + added_ms / direct_ms}},
        "failed": 0,
        "load": 1.5,
    }


def test_a_line_fits_its_head():
    assert len(line(row("at-once", 32, 4.0, 0.6, 0.5))) == len(HEAD.splitlines()[-1])


def test_what_was_wanted_of_one_caller_is_met_or_missed():
    found = summary(
        [row("at-once", 1, 3.0, 0.7, 0.9), row("at-once", 32, 3.0, 9.0, 9.0), row("llms", 1, 60.0, 1.5, 0.6)]
    )
    at_once, llms = found.splitlines()
    assert "0.90 ms of CPU (wanted 0.7): MISSED; 0.70 ms of latency (wanted 0.8): met" in at_once
    assert "% of the latency" not in at_once
    assert "2.5 % of the latency (wanted under 2 %): MISSED" in llms

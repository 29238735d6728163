# SPDX-License-Identifier: Apache-2.0
"""What a GPU check says of its figures: no failure and no missed target goes unsaid."""

from __future__ import annotations

from typing import Any

import pytest

from quorum_bench.gpu import report


def load(concurrency: int, share: float = 1.0, extra: float = 1.0, **more: Any) -> dict[str, Any]:
    times = {"bare_p50_ms": 10.0, "graph_p50_ms": 10.0 + extra, "graph_p95_ms": 20.0}
    rates = {
        "bare_rate": 100.0,
        "graph_rate": 100.0 * share,
        "throughput_share": share,
        "extra_p50_ms": extra,
    }
    return {"concurrency": concurrency, "failed": 0, "abstained": 0, **times, **rates, **more}


def served(*loads: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "members": 1,
        "same_answers": {"of": 8, "same": 8},
        "redeploy": {"redeploys": 6, "live": 6, "requests": 99, "failed": 0},
        "tokens_per_answer": 30.0,
        "gpu_mib": {"before": 500.0, "with_bare": 17_000.0},
        "loads": list(loads),
        **more,
    }


def answered(**more: Any) -> dict[str, Any]:
    same = {"same_answers": 16, "same_tokens": 2048}
    guided = {"answers": 64, "valid": 64}
    return {"prompts": 16, "tokens": 2048, "alone": same, "together": same, "guided": guided, **more}


def outcomes(**parts: dict[str, Any]) -> dict[str, str]:
    named = {key.replace("__", "/").replace("hf_", "hf-"): part for key, part in parts.items()}
    return {what: outcome for what, outcome, _ in report.judge(named)}


def test_all_is_well() -> None:
    found = outcomes(hf_8b__answers=answered(), hf_8b__graph=served(load(1), load(32)))
    assert found == {
        "hf-8b/answers as Transformers": "ok",
        "hf-8b/answers guided": "ok",
        "hf-8b/graph redeploy": "ok",
        "hf-8b/graph same answers": "ok",
        "hf-8b/graph throughput": "ok",
        "hf-8b/graph latency": "ok",
    }


def test_targets_are_held_at_the_ends_of_the_range() -> None:
    slow = served(load(1, extra=5.1), load(8, share=0.5, extra=70.0), load(32, share=0.94))
    found = outcomes(hf_8b__graph=slow)
    assert found["hf-8b/graph throughput"] == "MISSED"
    assert found["hf-8b/graph latency"] == "MISSED"
    toy = outcomes(hf_tiny__graph=slow)
    assert toy["hf-tiny/graph throughput"] == toy["hf-tiny/graph latency"] == "not judged"
    processor = outcomes(hf_mine__graph=slow | {"device": "CPU"})
    assert processor["hf-mine/graph latency"] == "not judged"
    # A checkpoint of somebody's own is no toy.
    assert outcomes(hf_mine__graph=slow)["hf-mine/graph throughput"] == "MISSED"


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (answered(alone={"same_answers": 16, "same_tokens": 2047}), "as Transformers"),
        (answered(alone={"same_answers": 15, "same_tokens": 2048}), "as Transformers"),
        (answered(guided={"answers": 64, "valid": 63}), "guided"),
    ],
)
def test_one_wrong_token_or_answer_is_a_failure(part, what) -> None:
    assert outcomes(hf_8b__answers=part)[f"hf-8b/answers {what}"] == "FAILED"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"redeploy": {"redeploys": 6, "live": 6, "requests": 99, "failed": 1}}, "redeploy"),
        ({"redeploy": {"redeploys": 6, "live": 5, "requests": 99, "failed": 0}}, "redeploy"),
        ({"same_answers": {"of": 8, "same": 7}}, "same answers"),
        ({"loads": [load(1), load(32, failed=1)]}, "at 32"),
        ({"loads": [load(1), load(32, abstained=2)]}, "at 32"),
    ],
)
def test_one_request_or_redeploy_lost_is_a_failure(more, what) -> None:
    part = served(load(1), load(32)) | more
    assert outcomes(hf_8b__ensemble=part)[f"hf-8b/ensemble {what}"] == "FAILED"


@pytest.mark.parametrize(
    ("tokens", "outcome", "detail"),
    [
        (
            {"all": 400, "reused": 300},
            "not judged",
            "300 of 400 prompt tokens came from the KV cache (75.0%)",
        ),
        ({"all": 400, "reused": 0}, "not judged", "0 of 400 prompt tokens came from the KV cache (0.0%)"),
        (None, "not measured", "not reported by this runtime"),
    ],
)
def test_reuse_of_prompts_is_told(tokens, outcome, detail) -> None:
    told = report.judge({"hf-8b/answers": answered(prompt_tokens=tokens)})
    assert told[-1] == ("hf-8b/answers prompt reuse", outcome, detail)


def test_reuse_of_several_bare_runtimes_is_one_sum() -> None:
    tokens = [{"all": 300, "reused": 100}, {"all": 100, "reused": 100}]
    told = report.judge({"hf-8b/ensemble": served(load(1), load(32), bare_prompt_tokens=tokens)})
    assert ("hf-8b/ensemble bare prompt reuse", "not judged") in [one[:2] for one in told]
    assert [one[2] for one in told if "reuse" in one[0]] == [
        "200 of 400 prompt tokens came from the KV cache (50.0%); listings repeat under load"
    ]


def test_a_way_of_batching_that_loses_a_question_is_a_failure() -> None:
    rounds = [
        {"batching": way, "concurrency": at, "failed": failed}
        for way, at, failed in (("dynamic", 1, 0), ("dynamic", 32, 0), ("continuous", 1, 0))
    ]
    part = {"rounds": [*rounds, {"batching": "continuous", "concurrency": 32, "failed": 2}]}
    assert outcomes(hf_8b__batching=part) == {"hf-8b/batching continuous at 32": "FAILED"}


def encoded(**more: Any) -> dict[str, Any]:
    side = {f"{side}_{key}": 10.0 for side in ("cpu", "gpu") for key in ("rate", "p50_ms", "p95_ms")}
    load = {"concurrency": 32, "ratio": 12.3, "failed": 0, "abstained": 0, **side}
    return {
        "of": 64,
        "answered": {"cpu": 64, "gpu": 64},
        "same": 63,
        "largest_gap": 0.02,
        "engine_files": 2,
        "loads": [load],
        **more,
    }


def test_an_encoder_is_judged_on_what_it_answers_not_on_speed() -> None:
    told = report.judge({"encoder-minilm/encoder": encoded()})
    assert [one[:2] for one in told] == [
        ("encoder-minilm/encoder answered", "ok"),
        ("encoder-minilm/encoder as on the CPU", "ok"),
        ("encoder-minilm/encoder compiled", "ok"),
        ("encoder-minilm/encoder throughput", "not judged"),
    ]
    assert told[3][2] == "12.30 times the CPU's at 32 at once"
    assert "63 of 64 answers are equal" in told[1][2]
    assert "| encoder-minilm | graph, gpu | 32 | 10.0 |" in report.table(
        {"encoder-minilm/encoder": encoded()}
    )


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"answered": {"cpu": 64, "gpu": 63}}, "answered"),
        ({"largest_gap": 0.11}, "as on the CPU"),
        ({"largest_gap": None}, "as on the CPU"),
        ({"engine_files": 0}, "compiled"),
        ({"loads": [encoded()["loads"][0] | {"abstained": 1}]}, "at 32"),
    ],
)
def test_an_encoder_that_differs_or_abstains_on_the_gpu_is_a_failure(more: dict[str, Any], what: str) -> None:
    told = report.judge({"encoder-minilm/encoder": encoded(**more)})
    assert [one[0] for one in told if one[1] == "FAILED"] == [f"encoder-minilm/encoder {what}"]


def test_errors_and_gaps_are_told() -> None:
    parts = {
        "hf_8b__graph": {"skipped": "no server"},
        "hf_8b__answers": {"error": "RuntimeError: lost\nmore"},
    }
    assert outcomes(**parts) == {"hf-8b/answers": "FAILED", "hf-8b/graph": "not measured"}


def test_the_table_counts_tokens_of_all_members_and_the_memory_they_took() -> None:
    part = served(load(32, share=0.97), members=3)
    lines = report.table({"hf-8b/ensemble": part}).splitlines()
    assert "| hf-8b | 3 bare | 32 | 100.0 | 9000 | 10.0 |  |  | 16500 |" in lines
    assert "| hf-8b | graph of 3 | 32 | 97.0 | 8730 | 11.0 | 20.0 | 97.0% |  |" in lines
    assert "8b: random weights, 8,030.3 million, the shape of Llama 3.1 8B." in lines[-1]

# SPDX-License-Identifier: Apache-2.0
"""Judge the figures of a GPU check: one table, and an outcome for each claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorum_bench.gpu.models import SHAPES

ENCODER = "encoder"
PARTS = ("answers", "batching", "graph", "ensemble", ENCODER)
MIN_THROUGHPUT_SHARE = 0.95
MAX_EXTRA_MS = 5.0
MAX_SCORE_GAP = 0.1
"""Largest difference of an encoder's score, in nats: FP16 rounds by less, other inputs give more."""
BAD = ("FAILED", "MISSED")

Row = dict[str, Any]
Outcome = tuple[str, str, str]


def ordered(parts: Row) -> list[tuple[str, Row]]:
    """Parts of one model together, in the order in which they run."""

    def place(item: tuple[str, Row]) -> tuple[str, int]:
        name, what = item[0].rsplit("/", 1)
        return name, PARTS.index(what)

    return sorted(parts.items(), key=place)


def judge(parts: Row) -> list[Outcome]:
    """Judge each part: (claim, outcome, detail).

    Outcomes are ``ok``, ``FAILED``, ``MISSED`` (a target of speed), ``not judged`` and ``not measured``.
    """
    outcomes: list[Outcome] = []
    for key, part in ordered(parts):
        name, what = key.rsplit("/", 1)
        if "error" in part:
            outcomes.append((key, "FAILED", part["error"].splitlines()[0]))
        elif "skipped" in part:
            outcomes.append((key, "not measured", part["skipped"].splitlines()[0]))
        elif what == "answers":
            outcomes += _judge_answers(key, part)
        elif what == "batching":
            outcomes += _judge_batching(key, part)
        elif what == ENCODER:
            outcomes += _judge_encoder(key, part)
        elif what in ("graph", "ensemble"):
            outcomes += _judge_served(key, part)
            if what == "graph":
                shape = SHAPES.get(name.partition("-")[2])
                is_toy = part.get("device") == "CPU" or (shape is not None and not shape.judged)
                outcomes += _judge_cost(key, part, is_toy=is_toy)
    return outcomes


def _ok(is_ok: bool) -> str:
    return "ok" if is_ok else "FAILED"


def _judge_answers(key: str, part: Row) -> list[Outcome]:
    guided = part["guided"]
    valid = f"{guided['valid']} of {guided['answers']} valid"
    outcomes = [(f"{key} guided", _ok(guided["valid"] == guided["answers"]), valid)]
    if "prompt_tokens" in part:
        outcomes.append(_reuse(key, [part["prompt_tokens"]]))
    if "alone" not in part:
        return [(f"{key} as Transformers", "not measured", "the model is not Transformers'"), *outcomes]
    alone, together = part["alone"], part["together"]
    same = alone["same_tokens"] == part["tokens"] and alone["same_answers"] == part["prompts"]
    detail = f"{alone['same_tokens']} of {part['tokens']} tokens alone, {together['same_tokens']} in a batch"
    # Other kernels round differently, so a token may change without a bug.
    outcome = _ok(same) if same or key.startswith("hf-") else "not judged"
    return [(f"{key} as Transformers", outcome, detail), *outcomes]


def _judge_batching(key: str, part: Row) -> list[Outcome]:
    """Judge failures only, not speed; a question without an answer is a failure."""
    failed: dict[tuple[str, int], int] = {}
    for load in part["rounds"]:
        way = (load["batching"], load["concurrency"])
        failed[way] = failed.get(way, 0) + load["failed"]
    return [
        (f"{key} {way} at {at}", "FAILED", f"{count} failed") for (way, at), count in failed.items() if count
    ]


def _reuse(key: str, runtimes: Sequence[Row | None]) -> Outcome:
    """Count prompt tokens from the KV cache in all runtimes; speed shows their worth."""
    counts = [count for count in runtimes if count]
    if not counts:
        return (f"{key} prompt reuse", "not measured", "not reported by this runtime")
    tokens, reused = sum(count["all"] for count in counts), sum(count["reused"] for count in counts)
    share = f" ({reused / tokens:.1%})" if tokens else ""
    return (
        f"{key} prompt reuse",
        "not judged",
        f"{reused} of {tokens} prompt tokens came from the KV cache{share}",
    )


def _reuse_under_load(key: str, part: Row) -> list[Outcome]:
    if "bare_prompt_tokens" not in part:
        return []
    what, outcome, detail = _reuse(f"{key} bare", part["bare_prompt_tokens"])
    again = "" if outcome == "not measured" else "; listings repeat under load"
    return [(what, outcome, detail + again)]


def _judge_served(key: str, part: Row) -> list[Outcome]:
    redeploy, agreed = part["redeploy"], part["same_answers"]
    safe = redeploy["failed"] == 0 and redeploy["live"] == redeploy["redeploys"]
    live = (
        f"{redeploy['live']} of {redeploy['redeploys']} live under load,"
        f" {redeploy['failed']} of {redeploy['requests']} requests failed"
    )
    same = f"{agreed['same']} of {agreed['of']} as from the bare runtime"
    return [
        (f"{key} redeploy", _ok(safe), live),
        (f"{key} same answers", _ok(agreed["same"] == agreed["of"]), same),
        *_reuse_under_load(key, part),
        *_lost(key, part),
    ]


def _judge_encoder(key: str, part: Row) -> list[Outcome]:
    count, gap, files = part["of"], part["largest_gap"], part["engine_files"]
    given = part["answered"]
    top = max(part["loads"], key=lambda load: load["concurrency"])
    difference = "a score is missing" if gap is None else f"scores differ by up to {gap:.2g}"
    engine = (
        "not measured" if files is None else _ok(files > 0),
        "a stand-in computed"
        if files is None
        else f"TensorRT wrote {files} files; 0: see server.log for why",
    )
    return [
        (
            f"{key} answered",
            _ok(given["cpu"] == given["gpu"] == count),
            f"{given['gpu']} of {count} by the GPU, {given['cpu']} by the CPU",
        ),
        (
            f"{key} as on the CPU",
            _ok(gap is not None and gap <= MAX_SCORE_GAP),
            f"{difference} ({MAX_SCORE_GAP:g} at most); {part['same']} of {count} answers are equal",
        ),
        (f"{key} compiled", *engine),
        (
            f"{key} throughput",
            "not judged",
            f"{top['ratio']:.2f} times the CPU's at {top['concurrency']} at once",
        ),
        *_lost(key, part),
    ]


def _lost(key: str, part: Row) -> list[Outcome]:
    """Loads with a request that failed or an abstention."""
    return [
        (f"{key} at {load['concurrency']}", "FAILED", f"{load['failed']} failed, {load['abstained']} abstain")
        for load in part["loads"]
        if load["failed"] or load["abstained"]
    ]


def _judge_cost(key: str, part: Row, *, is_toy: bool) -> list[Outcome]:
    loads = sorted(part["loads"], key=lambda load: load["concurrency"])
    first, top = loads[0], loads[-1]
    share, extra = top["throughput_share"], first["extra_p50_ms"]
    throughput = f"{share:.1%} of the bare runtime's at {top['concurrency']} at once; target 95 %"
    latency = f"{extra:+.1f} ms at {first['concurrency']} at once; target {MAX_EXTRA_MS:.0f} ms"
    met = {throughput: share >= MIN_THROUGHPUT_SHARE, latency: extra <= MAX_EXTRA_MS}
    return [
        (f"{key} {what}", "not judged" if is_toy else "ok" if met[detail] else "MISSED", detail)
        for what, detail in (("throughput", throughput), ("latency", latency))
    ]


def table(parts: Row) -> str:
    """Tabulate every load as a row of one Markdown table."""
    heads = ("model", "what", "at once", "answers/s", "tokens/s", "p50 ms", "p95 ms", "of bare", "GPU MiB")
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for key, part in ordered(parts):
        name, what = key.rsplit("/", 1)
        for load in part.get("loads", []):
            rows += _ROWS.get(what, _pair)(name, part, load)
    shapes = sorted({key.rsplit("/", 1)[0].partition("-")[2] for key in parts} & set(SHAPES))
    notes = [
        f"{shape}: random weights, {SHAPES[shape].parameters / 1e6:,.1f} million, the shape of"
        f" {SHAPES[shape].like}. Speed and memory count, the answers mean nothing."
        for shape in shapes
    ]
    return "\n".join([*rows, "", *notes])


def _batching_row(name: str, _: Row, load: Row) -> list[str]:
    times = (load["p50_ms"], load["p95_ms"])
    return [_row(name, f"bare, {load['batching']}", load["concurrency"], load["rate"], None, times)]


def _encoder_rows(name: str, _: Row, load: Row) -> list[str]:
    """Rows of both sides."""
    return [
        _row(
            name,
            f"graph, {side}",
            load["concurrency"],
            load[f"{side}_rate"],
            None,
            (load[f"{side}_p50_ms"], load[f"{side}_p95_ms"]),
        )
        for side in ("cpu", "gpu")
    ]


_ROWS = {"batching": _batching_row, ENCODER: _encoder_rows}


def _pair(name: str, part: Row, load: Row) -> list[str]:
    """Rows of the bare runtimes and of the graph of as many members."""
    count, at, tokens = part["members"], load["concurrency"], part["tokens_per_answer"]
    before, used = part["gpu_mib"]["before"], part["gpu_mib"]["with_bare"]
    memory = None if used is None else used - before
    bare, graph = load["bare_rate"], load["graph_rate"]
    times = (load["graph_p50_ms"], load["graph_p95_ms"])
    return [
        _row(
            name,
            f"{count} bare",
            at,
            bare,
            tokens and bare * tokens * count,
            (load["bare_p50_ms"], None),
            memory=memory,
        ),
        _row(
            name,
            f"graph of {count}",
            at,
            graph,
            tokens and graph * tokens * count,
            times,
            share=load["throughput_share"],
        ),
    ]


def _row(
    name: str,
    what: str,
    concurrency: int,
    rate: float,
    tokens: float | None,
    times: tuple[float | None, float | None],
    *,
    share: float | None = None,
    memory: float | None = None,
) -> str:
    of_bare = "" if share is None else f"{share:.1%}"
    numbers = [f"{rate:.1f}", _number(tokens, 0), _number(times[0]), _number(times[1]), of_bare]
    return f"| {' | '.join([name, what, str(concurrency), *numbers, _number(memory, 0)])} |"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"

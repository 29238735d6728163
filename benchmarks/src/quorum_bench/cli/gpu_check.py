# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench gpu-check``; also ``python -m quorum_bench.cli.gpu_check`` on a machine without Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from quorum_bench.gpu.check import WORK, Options, check
from quorum_bench.gpu.report import BAD, judge, table
from quorum_bench.gpu.results_file import CheckError

err = Console(stderr=True)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gpu-check")(gpu_check)


def gpu_check(
    runtime: Annotated[str, typer.Option(help="Runtime of the members: hf or tensorrt_llm.")] = "hf",
    standin: Annotated[
        bool,
        typer.Option(
            "--standin", help="Let the tests' stand-ins answer for tensorrt_llm and TensorRT, on a CPU."
        ),
    ] = False,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the runtime; may be repeated.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Random weights of that shape: tiny, small, 1b or 8b; may be repeated."),
    ] = None,
    checkpoint: Annotated[list[Path] | None, typer.Option(help="A real checkpoint; may be repeated.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N; auto is the first GPU.")] = "auto",
    members: Annotated[int, typer.Option(help="Of the ensemble; fewer where they do not fit.")] = 3,
    concurrency: Annotated[str, typer.Option(help="Requests in flight.")] = "1,8,32",
    seconds: Annotated[float, typer.Option(help="Length of one load.")] = 10.0,
    rounds: Annotated[int, typer.Option(help="Loads of each side.")] = 3,
    new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 128,
    prompts: Annotated[
        int, typer.Option(min=1, help="Listings to answer; four times as many under guidance.")
    ] = 16,
    redeploys: Annotated[int, typer.Option(min=1, help="New weights that go live under load.")] = 6,
    only: Annotated[
        list[str] | None, typer.Option(metavar="MODEL[/PART]", help="Only these parts; may be repeated.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what the results file holds.")] = False,
    results: Annotated[
        Path | None,
        typer.Option("--out", help="Results file; default: benchmarks/results/DATE-gpu-DEVICE.json."),
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of checkpoints and logs.")] = WORK,
) -> None:
    """Check members and graph on a GPU, and measure what the graph costs.

    Parts of each model: `answers` against Transformers, token by token, and guided ones against the schema;
    `batching`, dynamic against continuous; `graph`, one member in the serving graph against its bare runtime;
    `ensemble`, several members against as many bare runtimes, and redeploys under load. Of an encoder with
    random weights: `encoder`, its network on the GPU by TensorRT against the same on the CPU. Each part is
    written as soon as it is measured; what the results file holds is skipped. Without a tritonserver the last
    three parts say so and the others stand.

    Exit status: 1 when a check failed or a target was missed.

    Example: `quorum-bench gpu-check --only 1b/answers`, `quorum-bench gpu-check --checkpoint FOLDER`,
    `quorum-bench gpu-check --device cpu --shape tiny --seconds 1`.

    On a bare machine PyTorch, Transformers, Accelerate, llguidance and Typer are enough for the first two
    parts: `PYTHONPATH=ensemble_backend/src:client/src:benchmarks/src python3 -m quorum_bench.cli.gpu_check
    --only 1b/answers --out gpu.json`.
    """
    try:
        options = Options(
            runtime=runtime,
            standin=standin,
            option=dict(map(_option, option or [])),
            shapes=shape or (),
            checkpoints=checkpoint or (),
            device=device,
            members=members,
            concurrency=_numbers(concurrency),
            seconds=seconds,
            rounds=rounds,
            new_tokens=new_tokens,
            prompts=prompts,
            redeploys=redeploys,
            only=only or (),
            again=again,
            results=results,
            work=work,
            say=lambda text: err.print(f"gpu-check: {text}", markup=False, highlight=False, soft_wrap=True),
        )
        parts = check(options)
    except CheckError as error:
        err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    outcomes = judge(parts)
    print(f"\n{table(parts)}\n")
    for what, outcome, detail in outcomes:
        print(f"{outcome:12} {what}: {detail}")
    print(f"\n{options.file}")
    raise typer.Exit(int(any(outcome in BAD for _, outcome, _ in outcomes)))


def _option(pair: str) -> tuple[str, Any]:
    """Numbers and truths as such, everything else as text."""
    key, _, value = pair.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--concurrency {text}: give numbers, such as 1,8,32") from error


if __name__ == "__main__":
    typer.run(gpu_check)

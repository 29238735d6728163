# SPDX-License-Identifier: Apache-2.0
"""``quorum plan``: plan the GPU memory and the cost of a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

import quorum
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    JsonOption,
    adapters_text,
    new_table,
    note,
    out,
    print_json,
)
from quorum.cli.extract import show_estimate
from quorum.cli.options import AttributesOption, UrlOption, names_in
from quorum.hardware import GIB, KNOWN

if TYPE_CHECKING:
    from quorum.capacity.plan import GpuPlan, Share


def plan(
    context: typer.Context,
    deploy: Annotated[
        Path | None,
        typer.Argument(
            help="The deployment to plan. Default: deploy.gpu.yaml; with --requests deploy.yaml.",
            show_default=False,
        ),
    ] = None,
    named: Annotated[
        Path | None,
        typer.Option(
            "--deploy", "--spec", "-d", envvar="QUORUM_DEPLOY", help="The same, as in other commands."
        ),
    ] = None,
    gpu: Annotated[str | None, typer.Option(help=f"Plan for this GPU: {', '.join(KNOWN)}.")] = None,
    gpu_memory: Annotated[str | None, typer.Option(help="Plan for a GPU with so much, as in 80GiB.")] = None,
    gpus: Annotated[int | None, typer.Option(help="Plan for so many of them.", min=1, max=1024)] = None,
    listings: Annotated[float | None, typer.Option(help="Cost: so many listings.", min=0)] = None,
    rate: Annotated[
        float | None, typer.Option(help="Cost: listings per second that the box answers, as measured.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="Cost: price of one GPU hour.", min=0)] = None,
    requests: Annotated[
        Path | None,
        typer.Option(help="Estimate a run over these listings (CSV or JSONL) instead: calls, tokens, cost."),
    ] = None,
    attributes: AttributesOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Plan the GPU memory of a deployment, by arithmetic that it shows. Exit code 1 if it cannot fit.

    Without --gpu it plans for the GPUs of this machine. Figures are computed, not measured.

    With --requests it estimates what `quorum extract` over a file takes, in calls, tokens, money and time: by
    some of its listings, if the server answers, else by the prompts alone.

    Example: `quorum plan deploy.gpu.yaml --gpu h100-80`

    Example: `quorum plan --requests listings.csv`

    Example: `quorum plan deploy.gpu.yaml --gpu h100-80 --listings 1e6 --rate 9 --price 2.5`
    """
    source = context.get_parameter_source("named")
    if deploy and named and not (source and source.name == "ENVIRONMENT"):
        raise CommandError(f"{deploy} and --deploy {named}: name one deployment")
    deploy = deploy or named or (Path("deploy.gpu.yaml") if requests is None else DEPLOY)
    spec = quorum.load_deployment(deploy)
    if requests is not None:
        given = {"--gpu": gpu, "--gpu-memory": gpu_memory, "--gpus": gpus, "--listings": listings}
        if unfit := [name for name, value in {**given, "--rate": rate, "--price": price}.items() if value]:
            raise CommandError(f"--requests and {unfit[0]}: leave one out; prices of members are in {deploy}")
        options = quorum.ExtractOptions(attributes=names_in(attributes), url=url, open=True)
        expected = quorum.estimate_extract(spec, requests, options, note=note)
        show_estimate(expected, spec.currency, json)
        if not json:
            _show_unasked(expected, spec)
        return
    report = quorum.plan(
        spec, gpu=gpu, gpu_memory=gpu_memory, gpus=gpus, listings=listings, rate=rate, price=price
    )
    print_json(report) if json else _show(report)
    if not report.plan.fits:
        raise typer.Exit(1)


def _show_unasked(expected: quorum.Expected, spec: quorum.Deployment) -> None:
    """Print calls, and whose cost is not known, where nothing was asked."""
    if expected.calls and not expected.sampled:
        note(f"{expected.calls.middle:.0f} calls: each member is asked once about each listing")
    if expected.cost is None and expected.requests:
        for line in quorum.unknown_before_a_run(spec):
            note(f"cost not known of {line}")


def _show(report: quorum.PlanReport) -> None:
    plan, cost = report.plan, report.cost
    note(f"GPUs: {report.gpus_from}")
    for gpu in plan.gpus:
        out.print(_table(gpu))
        for share in gpu.shares:
            _print(f"{share.need.member}:", *_arithmetic(share))
    _show_adapters(report)
    if plan.elsewhere:
        note(f"not planned, on no GPU or of unknown shape: {', '.join(plan.elsewhere)}")
    for line in plan.notes:
        note(f"note: {line}")
    for problem in plan.problems:
        note(Text.assemble(("does not fit: ", "bold red"), problem))
    for fix in plan.fixes:
        note(f"would fit: {fix}")
    if plan.problems and not plan.fixes:
        note(
            "would fit: nothing that was tried (a fixed KV cache, fewer tokens, smaller batches, a larger"
            " GPU, and fp8 weights where the GPU is known to have them);"
            " take a member out, spread one over more GPUs (tensor_parallel), or choose smaller models"
        )
    if plan.fits and not plan.gpus:
        note("nothing to plan: no member is of runtime tensorrt_llm or engine, or of hf on a GPU")
    elif plan.fits:
        guessed = "; estimates of what PyTorch takes among it" if any(g.late for g in plan.gpus) else ""
        note(Text(f"fits; computed, not measured{guessed}", "green"))
    if cost:
        _print(
            f"cost: {cost.listings:g} listings / {cost.rate:g} per second / 3600 x {cost.gpus} GPUs"
            f" = {cost.gpu_hours:.1f} GPU hours"
            + ("" if cost.total is None else f" x {cost.price_per_gpu_hour:g} = {cost.total:.2f}")
        )


def _show_adapters(report: quorum.PlanReport) -> None:
    for name, adapters in report.adapters.items():
        note(f"adapters of {name}: {adapters_text(adapters)}")
    for names in report.shared:
        note(f"one base in memory for {', '.join(names)}")


def _print(*lines: str) -> None:
    for number, line in enumerate(lines):
        out.print(("  " if number else "") + line, soft_wrap=True, highlight=False)


def _arithmetic(share: Share) -> list[str]:
    need = share.need
    holds = f"{share.tokens} tokens, {share.questions} questions of {need.longest}"
    per_token = f"{need.kv_per_token / 1024:.0f} KiB per token"
    if need.by_pytorch:
        cache = f"{per_token} x {need.arithmetic['kv_cache']} = {_gib(share.kv)} GiB"
    else:
        cache = f"{per_token}; {_gib(share.kv)} GiB hold {holds}"
    return [
        f"weights      {need.arithmetic['weights']}",
        f"runtime      {need.arithmetic['context']}",
        f"activations  {need.arithmetic['activations']}",
        f"KV cache     {need.arithmetic['kv_per_token']} = {cache}",
    ]


def _table(plan: GpuPlan) -> Table:
    from quorum.capacity.plan import DRIVER_BYTES

    gpu = plan.gpu
    table = new_table(title=f"GPU {gpu.index}: {gpu.name}, {_gib(gpu.memory)} GiB")
    table.add_column("GiB")
    for name in ("weights", "runtime", "activations", "LoRA", "KV cache", "sum"):
        table.add_column(name, justify="right")
    for share in plan.shares:
        need = share.need
        parts = (need.weights, need.context, need.activations, need.adapter, share.kv)
        name = f"{need.member} (estimate)" if need.by_pytorch else need.member
        table.add_row(name, *map(_gib, (*parts, sum(parts))))
    taken = plan.fixed + sum(share.kv for share in plan.shares)
    table.add_section()
    sums = {"members": taken, "driver, others": gpu.used + DRIVER_BYTES, "left": plan.usable - taken}
    for name, size in sums.items():
        table.add_row(name, "", "", "", "", "", _gib(size))
    return table


def _gib(number: float) -> str:
    return f"{number / GIB:.1f}"

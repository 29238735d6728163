# SPDX-License-Identifier: Apache-2.0
"""``quorum plan``: does a deployment fit on its GPUs, what does it cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from quorum.capacity.plan import DRIVER_BYTES, GpuPlan, Plan, Share, plan_memory
from quorum.cli.console import CommandError, JsonOption, friendly, note, out, print_json, spec_of
from quorum.hardware import GIB, KNOWN, Gpu, find_gpus, known_gpu, parse_memory

_ASSUMED = "h100-80"
_SECONDS_PER_HOUR = 3600


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


@friendly
def plan(
    deploy: Annotated[Path, typer.Argument(help="The deployment to plan.")] = Path("deploy.gpu.yaml"),
    gpu: Annotated[str | None, typer.Option(help=f"Plan for this GPU: {', '.join(KNOWN)}.")] = None,
    gpu_memory: Annotated[str | None, typer.Option(help="Plan for a GPU with so much, as in 80GiB.")] = None,
    gpus: Annotated[int | None, typer.Option(help="Plan for so many of them.", min=1)] = None,
    listings: Annotated[float | None, typer.Option(help="Cost: so many listings.", min=0)] = None,
    rate: Annotated[
        float | None, typer.Option(help="Cost: listings per second that the box answers, as measured.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="Cost: price of one GPU hour.", min=0)] = None,
    json: JsonOption = False,
) -> None:
    """Plan the GPU memory of a deployment, by arithmetic that it shows. Exit code 1 if it cannot fit.

    Without --gpu it plans for the GPUs of this machine. Figures are computed, not measured.

    Example: `quorum plan deploy.gpu.yaml --gpu h100-80`

    Example: `quorum plan deploy.gpu.yaml --gpu h100-80 --listings 1e6 --rate 9 --price 2.5`
    """
    spec = spec_of(deploy)
    on, how = _gpus(gpu, gpu_memory, gpus)
    found = plan_memory(spec, on)
    cost = _cost(listings, rate, price, len(found.gpus) or 1)
    if json:
        print_json(_as_json(found, how) | ({"cost": cost} if cost else {}))
    else:
        _tell(found, how, cost)
    if not found.fits:
        raise typer.Exit(1)


def _gpus(name: str | None, memory: str | None, count: int | None) -> tuple[list[Gpu], str]:
    """What to plan for, and where that was learned."""
    if name and memory:
        raise CommandError("--gpu and --gpu-memory: give one of them")
    if memory:
        one, how = Gpu(f"a GPU of {memory}", "", parse_memory(memory)), "as --gpu-memory says"
    elif name:
        one, how = known_gpu(name), "as --gpu says"
    elif here := find_gpus():
        return here[:count], "those of this machine, with what others hold on them taken off"
    else:
        one, how = KNOWN[_ASSUMED], f"{_ASSUMED} is assumed, as this machine has no GPU; choose with --gpu"
    return [replace(one, index=index) for index in range(count or 1)], how


def _cost(
    listings: float | None, rate: float | None, price: float | None, gpus: int
) -> dict[str, float | int] | None:
    if listings is None and rate is None and price is None:
        return None
    if listings is None or not rate or rate <= 0:
        raise CommandError(
            "a cost needs --listings and --rate (listings per second that this box answers): time"
            " `quorum extract FILE`, or take an estimate from docs/guides/gpu.md"
        )
    hours = listings / rate / _SECONDS_PER_HOUR * gpus
    cost: dict[str, float | int] = {"listings": listings, "rate": rate, "gpus": gpus, "gpu_hours": hours}
    if price is not None:
        cost |= {"price_per_gpu_hour": price, "total": hours * price}
    return cost


def _tell(plan: Plan, how: str, cost: dict[str, float | int] | None) -> None:
    note(f"GPUs: {how}")
    for gpu in plan.gpus:
        out.print(_table(gpu))
        for share in gpu.shares:
            _say(f"{share.need.member}:", *_arithmetic(share))
    if plan.elsewhere:
        note(f"not planned, on no GPU or of unknown shape: {', '.join(plan.elsewhere)}")
    for line in plan.notes:
        note(f"note: {line}")
    for problem in plan.problems:
        note(Text.assemble(("does not fit: ", "bold red"), problem))
    for mend in plan.mends:
        note(f"would fit: {mend}")
    if plan.problems and not plan.mends:
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
        _say(
            f"cost: {cost['listings']:g} listings / {cost['rate']:g} per second / 3600 x {cost['gpus']} GPUs"
            f" = {cost['gpu_hours']:.1f} GPU hours"
            + (f" x {cost['price_per_gpu_hour']:g} = {cost['total']:.2f}" if "total" in cost else "")
        )


def _say(*lines: str) -> None:
    for number, line in enumerate(lines):
        out.print(("  " if number else "") + line, soft_wrap=True, highlight=False, markup=False)


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
    gpu = plan.gpu
    table = Table(title=f"GPU {gpu.index}: {gpu.name}, {_gib(gpu.memory)} GiB", title_justify="left")
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
    for name, size in (
        ("members", taken),
        ("driver, others", gpu.used + DRIVER_BYTES),
        ("left", plan.usable - taken),
    ):
        table.add_row(name, "", "", "", "", "", _gib(size))
    return table


def _as_json(plan: Plan, how: str) -> dict[str, Any]:
    return {
        "fits": plan.fits,
        "gpus_from": how,
        "gpus": [
            {
                "index": g.gpu.index,
                "name": g.gpu.name,
                "memory_bytes": g.gpu.memory,
                "used_bytes": g.gpu.used,
                "usable_bytes": g.usable,
                "fixed_bytes": g.fixed,
                "members": [
                    {
                        "member": s.need.member,
                        "weights_bytes": s.need.weights,
                        "runtime_bytes": s.need.context,
                        "activation_bytes": s.need.activations,
                        "lora_bytes": s.need.adapter,
                        "kv_bytes": s.kv,
                        "kv_bytes_per_token": s.need.kv_per_token,
                        "kv_tokens": s.tokens,
                        "questions_at_once": s.questions,
                        "estimate": s.need.by_pytorch,
                        "arithmetic": dict(s.need.arithmetic),
                    }
                    for s in g.shares
                ],
            }
            for g in plan.gpus
        ],
        "problems": plan.problems,
        "would_fit": plan.mends,
        "notes": plan.notes,
        "not_planned": plan.elsewhere,
    }


def _gib(number: float) -> str:
    return f"{number / GIB:.1f}"

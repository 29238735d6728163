# SPDX-License-Identifier: Apache-2.0
"""Plan the GPU memory of a deployment, on this machine's GPUs or others, and the cost of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from quorum.capacity.plan import GpuPlan, Plan, Share, plan_memory
from quorum.deployment.schema import Deployment
from quorum.hardware import KNOWN, Gpu, find_gpus, known_gpu, parse_memory
from quorum.records import Record, plain
from quorum_contract.errors import QuorumError
from quorum_contract.usage import FREE

_ASSUMED = "h100-80"
_SECONDS_PER_HOUR = 3600


class PlanError(QuorumError, ValueError):
    """Arguments are missing or contradict each other; the message names those to give."""

    code = "PLAN_INVALID"


@dataclass(frozen=True, slots=True)
class Cost(Record):
    """GPU hours of a run, and its price where one is known.

    Attributes:
        rate: Listings per second that all GPUs together answer.
        gpu_hours: Hours times GPUs.
        total: The price of the run; None where the price per GPU hour is.
    """

    listings: float
    rate: float
    gpus: int
    gpu_hours: float
    price_per_gpu_hour: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class PlanReport(Record):
    """A plan, the source of its GPUs, and a cost where one was asked for.

    Attributes:
        adapters: Member -> attribute ("*": all others) -> folder of the adapter that answers it; only members
            with adapters.
        shared: Members that hold one base together.
    """

    plan: Plan
    gpus_from: str
    cost: Cost | None
    adapters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    shared: Sequence[Sequence[str]] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "fits": self.plan.fits,
            "gpus_from": self.gpus_from,
            "gpus": [_gpu_json(gpu) for gpu in self.plan.gpus],
            "problems": self.plan.problems,
            "would_fit": self.plan.fixes,
            "notes": self.plan.notes,
            "not_planned": self.plan.elsewhere,
            "adapters": plain(self.adapters),
            "shared": plain(self.shared),
            **({"cost": self.cost.to_json()} if self.cost else {}),
        }


def plan(
    deployment: Deployment,
    *,
    gpu: str | None = None,
    gpu_memory: str | None = None,
    gpus: int | None = None,
    listings: float | None = None,
    rate: float | None = None,
    price: float | None = None,
) -> PlanReport:
    """Plan the GPU memory of a deployment by arithmetic; figures are computed, not measured.

    Args:
        deployment: The deployment.
        gpu: A name of :data:`quorum.hardware.KNOWN`.
        gpu_memory: Memory of another GPU, as in "80GiB".
        gpus: Number of GPUs; without ``gpu`` and ``gpu_memory``, of this machine's.
        listings: Listings of the run, for its cost.
        rate: Measured listings per second of all GPUs together.
        price: Of one GPU hour.

    Raises:
        PlanError: Two GPUs are named, or a cost lacks a figure.
        quorum.hardware.GpuError: The GPU or the memory cannot be understood.
    """
    targets, source = _gpus(gpu, gpu_memory, gpus)
    result = plan_memory(deployment, targets)
    return PlanReport(
        result,
        source,
        _cost(listings, rate, price, len(result.gpus) or 1),
        deployment.adapters(),
        [[member.name for member in group] for group in deployment.models().values() if len(group) > 1],
    )


def unknown_before_a_run(deployment: Deployment) -> tuple[str, ...]:
    """Say of each member why the cost of its calls is not known before a run; empty where that of all is."""
    found = []
    for member in deployment.members:
        price = member.priced
        if price is None:
            found.append(f"{member.name}: it has no `price` in {deployment.path}")
        elif price.per_second:
            found.append(f"{member.name}: it is priced by the second, and how long it works a run must show")
        elif price._replace(per_call=0.0) != FREE and member.runtime == "replay":
            found.append(f"{member.name}: it is priced by tokens, and has no prompt to count them of")
    return tuple(found)


def _gpus(name: str | None, memory: str | None, count: int | None) -> tuple[list[Gpu], str]:
    """GPUs to plan for, and their source."""
    if name and memory:
        raise PlanError("--gpu and --gpu-memory: give one of them")
    if memory:
        gpu, source = Gpu(f"a GPU of {memory}", "", parse_memory(memory)), "as --gpu-memory says"
    elif name:
        gpu, source = known_gpu(name), "as --gpu says"
    elif local := find_gpus():
        return local[:count], "those of this machine, with what others hold on them taken off"
    else:
        gpu, source = KNOWN[_ASSUMED], f"{_ASSUMED} is assumed, as this machine has no GPU; choose with --gpu"
    return [replace(gpu, index=index) for index in range(count or 1)], source


def _cost(listings: float | None, rate: float | None, price: float | None, gpus: int) -> Cost | None:
    if listings is None and rate is None and price is None:
        return None
    if listings is None or not rate or rate <= 0:
        raise PlanError(
            "a cost needs --listings and --rate (listings per second that this box answers): time"
            " `quorum extract FILE`, or take an estimate from docs/guides/gpu.md"
        )
    hours = listings / rate / _SECONDS_PER_HOUR * gpus
    return Cost(listings, rate, gpus, hours, price, None if price is None else hours * price)


def _gpu_json(plan: GpuPlan) -> dict[str, Any]:
    return {
        "index": plan.gpu.index,
        "name": plan.gpu.name,
        "memory_bytes": plan.gpu.memory,
        "used_bytes": plan.gpu.used,
        "usable_bytes": plan.usable,
        "fixed_bytes": plan.fixed,
        "members": [_share_json(share) for share in plan.shares],
    }


def _share_json(share: Share) -> dict[str, Any]:
    need = share.need
    return {
        "member": need.member,
        "weights_bytes": need.weights,
        "runtime_bytes": need.context,
        "activation_bytes": need.activations,
        "lora_bytes": need.adapter,
        "kv_bytes": share.kv,
        "kv_bytes_per_token": need.kv_per_token,
        "kv_tokens": share.tokens,
        "questions_at_once": share.questions,
        "estimate": need.by_pytorch,
        "arithmetic": dict(need.arithmetic),
    }

# SPDX-License-Identifier: Apache-2.0
"""Does a deployment fit on its GPUs? Sums per GPU, in whatever order the members load, and what would fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from quorum.engines.gpus import GIB, KNOWN, Gpu
from quorum.engines.memory import GPU_RUNTIMES, Need, need_of
from quorum.spec.model import Deployment, MemberSpec

# nvidia-smi reports 81559 MiB where programs on that H100 see 79.22 GiB: the driver keeps the rest.
DRIVER_BYTES = GIB // 2
_MOST_IN_ANY_ORDER = 6
_FP8_FROM = 89


@dataclass(slots=True)
class Share:
    """One member on one GPU.

    Attributes:
        need: What it takes.
        kv: Bytes of KV cache that it gets at least, in the worst order of loading; 0 where it cannot load.
        kv_most: Bytes that it gets in the best order.
    """

    need: Need
    kv: int
    kv_most: int

    @property
    def tokens(self) -> int:
        """Tokens that its KV cache holds."""
        return self.kv // self.need.kv_per_token

    @property
    def questions(self) -> int:
        """Longest questions that it can hold at once."""
        return min(self.tokens // self.need.longest, self.need.batch)


@dataclass(slots=True)
class GpuPlan:
    """One GPU with its members.

    Attributes:
        gpu: The GPU.
        shares: One per member on it, in the order of ``deploy.yaml``.
        problems: Why it does not fit; empty when it does.
    """

    gpu: Gpu
    shares: list[Share] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Bytes that members can share."""
        return max(self.gpu.free - DRIVER_BYTES, 0)

    @property
    def fixed(self) -> int:
        """Bytes that its members take before any KV cache."""
        return sum(share.need.fixed for share in self.shares)


@dataclass(slots=True)
class Plan:
    """A deployment on its GPUs.

    Attributes:
        gpus: One plan per GPU that is used.
        notes: What is worth knowing though it fits.
        mends: Changes that would make it fit, each tried; empty when it fits.
        elsewhere: Members that take no GPU memory by this plan.
    """

    gpus: list[GpuPlan]
    notes: list[str]
    mends: list[str]
    elsewhere: list[str]

    @property
    def problems(self) -> list[str]:
        """Why it does not fit."""
        return [problem for gpu in self.gpus for problem in gpu.problems]

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return not self.problems


def plan_memory(spec: Deployment, gpus: Sequence[Gpu], *, mends: bool = True) -> Plan:
    """Plan a deployment.

    Args:
        spec: The deployment.
        gpus: What it may use, by index.
        mends: Whether to look for changes that would make it fit.

    Raises:
        BuildError: A model is unknown, or a LoRA adapter does not fit its base.
    """
    llms = [group for group in spec.models().values() if group[0].runtime in GPU_RUNTIMES]
    elsewhere = [member.name for member in spec.members if member.runtime not in GPU_RUNTIMES]
    needs = [need_of(members, spec.root) for members in llms]
    plans = _plan(needs, gpus)
    plan = Plan(plans, [], [], elsewhere)
    plan.notes = list(_notes(plans))
    if mends and not plan.fits:
        plan.mends = list(_mends(spec, llms, gpus))
    return plan


def _plan(needs: Sequence[Need], gpus: Sequence[Gpu]) -> list[GpuPlan]:
    plans = {gpu.index: GpuPlan(gpu) for gpu in gpus}
    missing = sorted({index for need in needs for index in need.gpus if index not in plans})
    for index in missing:
        asking = next(need.member for need in needs if index in need.gpus)
        stand_in = plans.setdefault(index, GpuPlan(Gpu("no such GPU", "", 0, index=index)))
        stand_in.problems.append(
            f"GPU {index}: member {asking} wants it, {len(gpus)} are here;"
            " make its tensor_parallel smaller, or plan for more GPUs with --gpus"
        )
    for plan in plans.values():
        here = [need for need in needs if plan.gpu.index in need.gpus]
        plan.shares = [Share(need, 0, 0) for need in here]
        if not plan.problems:
            _check(plan)
    return [plan for plan in plans.values() if plan.shares]


def _check(plan: GpuPlan) -> None:
    """Fill the shares' KV caches and the problems of one GPU."""
    total, where = plan.usable, f"GPU {plan.gpu.index} ({plan.gpu.name})"
    if plan.fixed > total:
        parts = " + ".join(f"{s.need.member} {_gib(s.need.fixed)}" for s in plan.shares)
        plan.problems.append(
            f"{where}: {parts} = {_gib(plan.fixed)} before any KV cache, of {_gib(total)} usable"
        )
        return
    free = total - plan.fixed
    together = sum(share.need.kv_of(free) + share.need.lora_of(free) for share in plan.shares)
    if together > free:
        wanted = " + ".join(_kv_told(share.need, free) for share in plan.shares)
        plan.problems.append(
            f"{where}: KV caches exceed it. After all weights {_gib(free)} are free, and the members take"
            f" {wanted} = {_gib(together)}. A fraction is of what is free when that member loads, and Triton"
            " loads members side by side: give each a `kv_cache_gib`, or fractions that sum to less than 1"
        )
    caches: dict[str, list[int]] = {share.need.member: [share.need.kv_of(free)] for share in plan.shares}
    stopped = [said for order in _orders(plan.shares) if (said := _load(order, total, caches))]
    if stopped and not plan.problems:
        plan.problems.append(f"{where}: {stopped[0]}")
    for share in plan.shares:
        need, found = share.need, caches[share.need.member]
        share.kv, share.kv_most = min(found), max(found)
        if share.kv < need.kv_least and not plan.problems:
            plan.problems.append(
                f"{where}: member {need.member} gets {_gib(share.kv)} of KV cache, {share.tokens} tokens;"
                f" one question may take {need.longest} (max_seq_len)"
            )


def _orders(shares: list[Share]) -> Iterable[Sequence[Share]]:
    if len(shares) <= _MOST_IN_ANY_ORDER:
        return permutations(shares)
    # Each once as the last to load, behind the greediest.
    greedy = sorted(shares, key=lambda share: -share.need.kv_fraction)
    return [[*(s for s in greedy if s is not last), last] for last in shares]


def _load(order: Sequence[Share], total: int, caches: Mapping[str, list[int]]) -> str:
    """Load members one after the other; what stopped the first that does not fit, or nothing.

    Args:
        order: Who loads when.
        total: Bytes to share.
        caches: Member -> sizes of its KV cache; each order adds one.
    """
    free = total
    for number, need in enumerate(share.need for share in order):
        if need.fixed > free:
            before = ", ".join(share.need.member for share in order[:number])
            return (
                f"member {need.member} needs {_gib(need.fixed)} and finds {_gib(free)} when it loads after"
                f" {before}: a KV cache takes its fraction of what is free then, and Triton promises"
                " no order; give each member a `kv_cache_gib`"
            )
        free -= need.fixed
        kv = need.kv_of(free)
        caches[need.member].append(kv)
        free -= kv + need.lora_of(free)
    return ""


def _notes(plans: Sequence[GpuPlan]) -> Iterator[str]:
    for plan in plans:
        for share in plan.shares:
            need = share.need
            if need.kv_limit is not None and 0 < share.kv < need.kv_limit:
                yield f"{need.member} gets {_gib(share.kv)} of the {_gib(need.kv_limit)} that it asks for"
            elif share.kv and share.kv_most > 1.05 * share.kv:
                yield (
                    f"{need.member} gets {_gib(share.kv)} to {_gib(share.kv_most)} of KV cache on GPU"
                    f" {plan.gpu.index}, by the order of loading; `kv_cache_gib` makes it certain"
                )
            if share.kv and share.questions < need.batch:
                yield (
                    f"{need.member} holds {share.questions} questions of {need.longest} tokens at once,"
                    f" not its max_batch_size of {need.batch}; shorter ones more"
                )


def _mends(spec: Deployment, llms: Sequence[Sequence[MemberSpec]], gpus: Sequence[Gpu]) -> Iterator[str]:
    """Changes, each tried alone and then the first two together, that make the plan fit."""

    def fits(changes: Mapping[str, Any], on: Sequence[Gpu] = gpus) -> bool:
        needs = [need_of(members, spec.root, changes) for members in llms]
        return not any(plan.problems for plan in _plan(needs, on))

    def share_of(changes: Mapping[str, Any]) -> float | None:
        """The same KV cache for each in GiB, as large as it goes."""
        needs = [need_of(members, spec.root, changes) for members in llms]
        plans = [plan for plan in _plan(needs, gpus) if plan.shares]
        left = min((p.usable - p.fixed) / len(p.shares) for p in plans) if plans else 0.0
        rounded = int(left * 0.9 / GIB * 2) / 2
        return rounded if rounded >= 0.5 else None

    fp8: dict[str, Any] = {"quantization": "fp8"}
    short: dict[str, Any] = {"max_num_tokens": 2048, "max_batch_size": 64}
    modern = all(int(gpu.architecture.removeprefix("sm_") or 0) >= _FP8_FROM for gpu in gpus)
    attempts: list[tuple[str, dict[str, Any]]] = [("", {})]
    if modern:
        attempts.append(("`quantization: fp8` (half the weights, from an FP8 checkpoint)", fp8))
    attempts.append(("fewer tokens in flight (`max_num_tokens: 2048`, `max_batch_size: 64`)", short))
    if modern:
        attempts.append(("`quantization: fp8` with fewer tokens in flight", fp8 | short))
    for words, changes in attempts:
        gib = share_of(changes)
        limits = {"kv_cache_gib": gib, "kv_cache_fraction": None}
        if changes and fits(changes):
            yield f"for every member {words}"
        elif gib is not None and fits(changes | limits):
            yield f"for every member `kv_cache_gib: {gib:g}`" + (f" and {words}" if words else "")
    for name, gpu in KNOWN.items():
        if gpu.memory > max(g.memory for g in gpus) and fits({}, [_as(gpu, g.index) for g in gpus]):
            yield f"as it is, on {name} (`quorum plan --gpu {name}`)"
            break


def _as(gpu: Gpu, index: int) -> Gpu:
    return Gpu(gpu.name, gpu.architecture, gpu.memory, index=index)


def _kv_told(need: Need, free: int) -> str:
    if need.kv_limit is not None and need.kv_limit <= free * need.kv_fraction:
        return f"{need.member} {_gib(need.kv_limit)}"
    return f"{need.member} {need.kv_fraction:g} x {_gib(free)}"


def _gib(number: float) -> str:
    return f"{number / GIB:.1f} GiB"

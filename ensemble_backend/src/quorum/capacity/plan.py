# SPDX-License-Identifier: Apache-2.0
"""Plan GPU memory: sums per GPU for every order of loading, and changes that would make members fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, permutations
from pathlib import Path

from quorum.capacity.memory import UNCHANGED, Changes, Need, NeedUnder, read_llm
from quorum.capacity.torch_memory import gpu_of, read_torch_llm
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.hardware import GIB, KNOWN, Gpu
from quorum.repository.encoder_config import WORKSPACE_BYTES
from quorum.runtimes.encoder_folder import MODEL_FILE
from quorum.runtimes.options import EncoderOptions, GpuOptions, HfOptions

# nvidia-smi reports 81559 MiB where programs on that H100 see 79.22 GiB: the driver keeps the rest.
DRIVER_BYTES = GIB // 2
_MOST_IN_ANY_ORDER = 6
_FP8_FROM = 89
_BATCHES = (16, 8, 4, 2, 1)


@dataclass(slots=True)
class Share:
    """One member on one GPU, with the bytes of its KV cache in the worst and in the best order of loading.

    Where it cannot load, ``kv`` is 0. Under PyTorch both are the bytes of its full batch.
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
    """One GPU with its members, in the order of ``deploy.yaml``, and why they do not fit."""

    gpu: Gpu
    shares: list[Share] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Bytes that members can share."""
        return max(self.gpu.free - DRIVER_BYTES, 0)

    @property
    def fixed(self) -> int:
        """Bytes of its members without KV caches."""
        return sum(share.need.fixed for share in self.shares)

    @property
    def kv_room(self) -> int:
        """Bytes of KV cache of the full batches of members of runtime ``hf``."""
        return sum(share.need.kv_room for share in self.shares)

    @property
    def late(self) -> int:
        """Bytes that members of runtime ``hf`` allocate only when questions arrive."""
        return sum(share.need.late for share in self.shares)


@dataclass(slots=True)
class Plan:
    """A deployment on its GPUs.

    Attributes:
        gpus: One plan per GPU in use.
        fixes: Changes that would make it fit, each tried; empty when it fits.
        elsewhere: Members without GPU memory in this plan.
    """

    gpus: list[GpuPlan]
    notes: list[str]
    fixes: list[str]
    elsewhere: list[str]

    @property
    def problems(self) -> list[str]:
        """Why it does not fit."""
        return [problem for gpu in self.gpus for problem in gpu.problems]

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return not self.problems


def plan_memory(
    spec: Deployment,
    gpus: Sequence[Gpu],
    *,
    pytorch_sees_gpus: bool = True,
    loaded: Iterable[Sequence[MemberSpec]] | None = None,
) -> Plan:
    """Plan a deployment on GPUs, and search for changes that would make it fit.

    ``pytorch_sees_gpus`` says whether ``device: auto`` of runtime ``hf`` means a GPU. ``loaded``: the
    members of each LLM that is loaded, by default those of the deployment, each once.

    Raises:
        BuildError: A model is unknown, or a LoRA adapter does not fit its base.
    """
    llms: list[NeedUnder] = []
    notes: list[str] = []
    planned: set[str] = set()
    for group in spec.models().values() if loaded is None else loaded:
        first = group[0]
        llm: NeedUnder | str
        if isinstance(first.options, GpuOptions):
            llm = read_llm(group, spec.root)
        elif (
            isinstance(first.options, HfOptions) and gpu_of(first.options, auto=pytorch_sees_gpus) is not None
        ):
            own = {m.name: m.options for m in group if isinstance(m.options, HfOptions)}
            llm = read_torch_llm(own, spec.root)
        elif isinstance(first.options, EncoderOptions) and first.options.triton:
            llm = _encoder(first.options, spec.root)
        else:
            continue
        if isinstance(llm, str):
            notes.append(f"{first.name} is on a GPU but not counted: {llm}")
        else:
            llms.append(llm)
            planned.update(member.name for member in group)
    plans = _plan([llm(UNCHANGED) for llm in llms], gpus)
    elsewhere = [name for name in spec.member_names if name not in planned]
    fits = not any(plan.problems for plan in plans)
    return Plan(plans, [*notes, *_notes(plans)], [] if fits else list(_fixes(llms, gpus)), elsewhere)


def _encoder(options: EncoderOptions, root: Path) -> str:
    """What is known of an encoder's GPU memory: little, next to an LLM."""
    path = root / options.model / MODEL_FILE
    size = _gib(path.stat().st_size) if path.is_file() else "not here"
    return f"an encoder, {MODEL_FILE} is {size}; TensorRT adds a workspace of up to {_gib(WORKSPACE_BYTES)}"


def _plan(needs: Sequence[Need], gpus: Sequence[Gpu]) -> list[GpuPlan]:
    plans = {gpu.index: GpuPlan(gpu) for gpu in gpus}
    wanted = {index: need for need in reversed(needs) for index in need.gpus}
    for index in sorted(wanted.keys() - plans.keys()):
        advice = "choose another device" if wanted[index].by_pytorch else "make its tensor_parallel smaller"
        plans[index] = GpuPlan(Gpu("no such GPU", "", 0, index=index))
        plans[index].problems.append(
            f"GPU {index}: member {wanted[index].member} wants it, {len(gpus)} are here;"
            f" {advice}, or plan for more GPUs with --gpus"
        )
    for plan in plans.values():
        own = [need for need in needs if plan.gpu.index in need.gpus]
        plan.shares = [Share(need, need.kv_room, need.kv_room) for need in own]
        if not plan.problems:
            found = list(_problems(plan))[:1]
            plan.problems = [f"GPU {plan.gpu.index} ({plan.gpu.name}): {problem}" for problem in found]
    return [plan for plan in plans.values() if plan.shares]


def _problems(plan: GpuPlan) -> Iterator[str]:
    """Fill the shares' KV caches and find the problems of one GPU; the first is the cause of the others."""
    total = plan.usable
    if plan.fixed + plan.kv_room > total:
        parts = " + ".join(f"{s.need.member} {_gib(s.need.fixed + s.need.kv_room)}" for s in plan.shares)
        batches = "with full batches of hf members, by estimate, and " if plan.late else ""
        yield (
            f"{parts} = {_gib(plan.fixed + plan.kv_room)} {batches}before any"
            f" {'other ' if plan.late else ''}KV cache, of {_gib(total)} usable"
        )
        return
    free = total - sum(share.need.at_start for share in plan.shares)
    yield from _exceeding(plan, free)
    own = [share for share in plan.shares if not share.need.by_pytorch]
    caches: dict[str, list[int]] = {share.need.member: [share.need.kv_of(free)] for share in own}
    # When another member loads, PyTorch may have allocated everything, or nothing yet.
    held = (0, plan.late) if plan.late else (0,)
    for order in _orders(plan.shares):
        for taken in held:
            yield from _load(order, total - taken, plan.late - taken, caches)
    for share in own:
        sizes = caches[share.need.member]
        share.kv, share.kv_most = min(sizes), max(sizes)
        if share.tokens < share.need.longest:
            yield (
                f"member {share.need.member} gets {_gib(share.kv)} of KV cache, {share.tokens} tokens;"
                f" one question may take {share.need.longest} (max_seq_len)"
            )


def _exceeding(plan: GpuPlan, free: int) -> Iterator[str]:
    """Why KV caches do not fit into the ``free`` bytes after all members have loaded."""
    needs = [share.need for share in plan.shares if not share.need.by_pytorch]
    together = sum(need.kv_of(free) + need.lora_of(free) for need in needs)
    if together <= free - plan.late:
        return
    wanted = " + ".join(_kv_text(need, free) for need in needs)
    kept, advice = "", "`kv_cache_gib`, or fractions that sum to less than 1"
    if plan.late:
        kept = f", {_gib(plan.late)} of it for full batches of hf members (estimate)"
        advice = "`kv_cache_gib` that leaves them theirs"
    yield (
        f"KV caches exceed it. After all weights {_gib(free)} are free{kept}, and the members take"
        f" {wanted} = {_gib(together)}. A fraction is of what is free when that member loads, and Triton"
        f" loads members side by side: give each a {advice}"
    )


def _orders(shares: list[Share]) -> Iterable[Sequence[Share]]:
    if len(shares) <= _MOST_IN_ANY_ORDER:
        return permutations(shares)
    # Each once as the last to load, after those with the largest fractions.
    greedy = sorted(shares, key=lambda share: -share.need.kv_fraction)
    return [[*(s for s in greedy if s is not last), last] for last in shares]


def _load(order: Sequence[Share], total: int, keep: int, caches: Mapping[str, list[int]]) -> Iterator[str]:
    """Simulate loading members in order, up to the first that does not fit, and say why.

    Of the ``total`` bytes, members of runtime ``hf`` allocate ``keep`` once questions arrive. Sizes of the
    others' KV caches are added to ``caches``, by member.
    """
    free = total
    for number, need in enumerate(share.need for share in order):
        if need.at_start > free:
            before = ", ".join(share.need.member for share in order[:number])
            yield (
                f"member {need.member} needs {_gib(need.at_start)} and finds {_gib(free)} when it loads after"
                f" {before}: a KV cache takes its fraction of what is free then, and Triton promises"
                " no order; give each member a `kv_cache_gib`"
            )
            return
        free -= need.at_start
        if not need.by_pytorch:
            kv = need.kv_of(free)
            caches[need.member].append(kv)
            free -= kv + need.lora_of(free)
    if free < keep:
        loaded = ", ".join(share.need.member for share in order)
        yield (
            f"full batches of hf members need {_gib(keep)} (estimate) and find {_gib(free)} when members have"
            f" loaded in the order {loaded}; give each member of another runtime a smaller `kv_cache_gib`"
        )


def _notes(plans: Sequence[GpuPlan]) -> Iterator[str]:
    for plan in plans:
        for share in plan.shares:
            need = share.need
            if need.by_pytorch:
                yield (
                    f"{need.member}: an estimate, as PyTorch takes memory as it goes; for questions of"
                    f" {need.longest} tokens ({need.arithmetic['longest']})"
                )
            elif need.kv_limit is not None and 0 < share.kv < need.kv_limit:
                yield f"{need.member} gets {_gib(share.kv)} of the {_gib(need.kv_limit)} that it asks for"
            elif share.kv and share.kv_most > 1.05 * share.kv:
                yield (
                    f"{need.member} gets {_gib(share.kv)} to {_gib(share.kv_most)} of KV cache on GPU"
                    f" {plan.gpu.index}, by the order of loading; `kv_cache_gib` makes it certain"
                )
            if share.kv and share.questions < need.batch:
                option = "max_batch" if need.by_pytorch else "max_batch_size"
                yield (
                    f"{need.member} holds {share.questions} questions of {need.longest} tokens at once,"
                    f" not its {option} of {need.batch}; shorter ones more"
                )


def _fixes(llms: Sequence[NeedUnder], gpus: Sequence[Gpu]) -> Iterator[str]:
    """Changes that make the plan fit, each tried alone and then with a fixed KV cache."""
    batches = [need.batch for need in (llm(UNCHANGED) for llm in llms) if need.by_pytorch]
    others = len(batches) < len(llms)
    who = "for every member of tensorrt_llm and engine" if batches else "for every member"

    def fits(changes: Changes, on: Sequence[Gpu] = gpus) -> bool:
        return not any(plan.problems for plan in _plan([llm(changes) for llm in llms], on))

    def attempt(whose: str, words: str, changes: Changes) -> str:
        """Describe the changes, alone or with a fixed KV cache; empty where they do not fit."""
        if changes != UNCHANGED and fits(changes):
            return f"{whose} {words}"
        gib = _even_cache(_plan([llm(changes) for llm in llms], gpus))
        if gib is None or not fits(replace(changes, kv_cache_gib=gib)):
            return ""
        more = words if whose == who else f"{whose} {words}"
        return f"{who} `kv_cache_gib: {gib:g}`" + (f" and {more}" if words else "")

    fp8, short = Changes(quantization="fp8"), Changes(max_num_tokens=2048, max_batch_size=64)
    modern = all(int(gpu.architecture.removeprefix("sm_") or 0) >= _FP8_FROM for gpu in gpus)
    attempts = [
        ("", UNCHANGED),
        ("`quantization: fp8` (half the weights, from an FP8 checkpoint)", fp8),
        ("fewer tokens in flight (`max_num_tokens: 2048`, `max_batch_size: 64`)", short),
        ("`quantization: fp8` with fewer tokens in flight", replace(short, quantization="fp8")),
    ]
    for words, changes in attempts:
        if others and (modern or not changes.quantization) and (fix := attempt(who, words, changes)):
            yield fix
    smaller = (size for size in _BATCHES if size < max(batches, default=0))
    tried = (attempt("for every member of hf", f"`max_batch: {n}`", Changes(max_batch=n)) for n in smaller)
    yield from islice(filter(None, tried), 1)
    largest = max((gpu.memory for gpu in gpus), default=0)
    for name, gpu in KNOWN.items():
        if gpu.memory > largest and fits(UNCHANGED, [replace(gpu, index=own.index) for own in gpus]):
            yield f"as it is, on {name} (`quorum plan --gpu {name}`)"
            break


def _even_cache(plans: Sequence[GpuPlan]) -> float | None:
    """The largest equal KV cache in GiB for each member that sizes one; ``None`` if under 0.5."""
    shares = []
    for plan in plans:
        sizing = sum(not share.need.by_pytorch for share in plan.shares)
        if sizing:
            shares.append((plan.usable - plan.fixed - plan.kv_room) / sizing)
    rounded = int(min(shares, default=0.0) * 0.9 / GIB * 2) / 2
    return rounded if rounded >= 0.5 else None


def _kv_text(need: Need, free: int) -> str:
    if need.kv_limit is not None and need.kv_limit <= free * need.kv_fraction:
        return f"{need.member} {_gib(need.kv_limit)}"
    return f"{need.member} {need.kv_fraction:g} x {_gib(free)}"


def _gib(number: float) -> str:
    return f"{number / GIB:.1f} GiB"

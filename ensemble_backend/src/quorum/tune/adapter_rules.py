# SPDX-License-Identifier: Apache-2.0
"""Read LoRA adapters for a merge, and refuse what PEFT would merge wrongly without an error.

PEFT's ``add_weighted_adapter`` copies the configuration of the first adapter and adds up plain A and B
matrices. Whatever else an adapter has (DoRA's magnitudes, rsLoRA's scaling, biases, ranks per module, base
weights changed by its initialisation) it leaves out, and the merged adapter loads without complaint (PEFT
issues 3737, 3761). What plain LoRA is, :mod:`quorum.runtimes.plain_lora` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from quorum.build.checkpoint import read_json
from quorum.build.lora import CONFIG, Adapter, read_adapter
from quorum.build.shapes import read_shape
from quorum.runtimes.peft_adapter import MODULES
from quorum.runtimes.plain_lora import extras
from quorum.tune.card import CARD_FILE, read_card
from quorum_contract.errors import QuorumError

Method = Literal["linear", "ties", "dare_linear", "dare_ties", "cat", "svd"]
METHODS: tuple[Method, ...] = get_args(Method)
PRUNING = ("ties", "dare_linear", "dare_ties")
"""Methods that drop a share of the weights: ``density`` is what stays."""
EXACT = ("cat", "svd")
"""Methods that add up the updates themselves; the others add up A and B apart, which needs equal ranks."""
RANKS = tuple(range(8, 65, 8))
"""Ranks that TensorRT-LLM serves without padding, up to the ``max_lora_rank`` that it has by default."""

_EQUAL = ("exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out")
_ADVICE = "merge adapters of plain LoRA, or tune one adapter on all tasks with `quorum tune --mix`"
_CONVERT = (
    "convert it to plain LoRA when saving, by save_pretrained(path_initial_model_for_weight_conversion=...)"
)


class MergeError(QuorumError, ValueError):
    """Adapters cannot be merged; the message names the adapter, the setting and the fix."""

    code = "MERGE_REFUSED"


@dataclass(frozen=True, slots=True)
class Mergeable:
    """An adapter whose updates are plain B @ A of one rank, times one scaling.

    Attributes:
        modules: Names of the modules that it changes.
        base_hash: Of the base, as its card states it; "" where it has no card.
        config: Content of ``adapter_config.json``.
    """

    adapter: Adapter
    modules: frozenset[str]
    config: Mapping[str, Any]
    base_hash: str = ""


def check_rank(rank: int, what: str) -> None:
    """Raise MergeError for a rank that not every runtime serves; ``what`` names the adapter or option."""
    if rank not in RANKS:
        raise MergeError(
            f"{what}: rank {rank} cannot be served by TensorRT-LLM; use one of {', '.join(map(str, RANKS))}"
        )


def read_mergeable(folder: Path) -> Mergeable:
    """Read an adapter.

    Raises:
        BuildError: It is no LoRA adapter in PEFT's format.
        CardError: Its card cannot be read.
        MergeError: It has more than plain LoRA has, which a merge would leave out or scale wrongly.
    """
    adapter = read_adapter(folder)
    config = read_json(folder / CONFIG, dict[str, Any])
    for extra in extras(config):
        advice = _CONVERT if extra.key == "init_lora_weights" else _ADVICE
        raise MergeError(
            f"{folder}: {extra.key} is {extra.value!r:.80}: it has {extra.what}, which PEFT would leave out"
            f" of a merge or apply wrongly; {advice}"
        )
    modules = config.get("target_modules")
    if not isinstance(modules, list) or not all(isinstance(name, str) for name in modules):
        raise MergeError(
            f"{folder}: target_modules is {modules!r:.80}; name the modules in a list, as in {list(MODULES)}"
        )
    known = read_card(folder).base_hash if (folder / CARD_FILE).is_file() else ""
    return Mergeable(adapter, frozenset(modules), config, known)


def read_all(folders: Sequence[Path], base: Path, method: Method) -> list[Mergeable]:
    """Read the adapters of a merge, without loading the base.

    Raises:
        BuildError: One is no LoRA adapter, or not one of this base.
        CardError: A card cannot be read.
        MergeError: One has more than plain LoRA, or they do not go together by this method.
    """
    if len(folders) < 2:
        raise MergeError("a merge needs two adapters or more; name their folders")
    found = [read_mergeable(folder) for folder in folders]
    shape = read_shape(base)
    for one in found:
        one.adapter.check_base(shape, str(base))
    first = found[0]
    for other in found[1:]:
        _check_together(first, other, method)
    total = sum(one.adapter.rank for one in found)
    if method == "cat" and total not in RANKS:
        raise MergeError(
            f"cat: the ranks add up to {total}, which TensorRT-LLM cannot serve; use svd, which keeps the"
            " largest rank"
        )
    return found


def _check_together(first: Mergeable, other: Mergeable, method: Method) -> None:
    a, b = first.adapter, other.adapter
    if not _is_same_base(first, other):
        raise MergeError(
            f"{a.path} was trained on {a.base or first.base_hash}, {b.path} on {b.base or other.base_hash};"
            " merge adapters of one base only"
        )
    if method not in EXACT:
        if a.rank != b.rank:
            raise MergeError(
                f"{method}: {a.path} has rank {a.rank}, {b.path} rank {b.rank}; this method needs equal"
                f" ranks, {' and '.join(EXACT)} do not"
            )
        if first.modules != other.modules:
            differ = ", ".join(sorted(first.modules ^ other.modules))
            raise MergeError(
                f"{method}: only one of {a.path} and {b.path} changes {differ}; this method needs equal"
                f" target_modules, {' and '.join(EXACT)} do not"
            )
    for key in _EQUAL:
        if first.config.get(key) != other.config.get(key):
            raise MergeError(
                f"{key} is {first.config.get(key)!r} in {a.path}, {other.config.get(key)!r} in {b.path}:"
                " PEFT would apply the first one's to both; tune them alike"
            )


def _is_same_base(first: Mergeable, other: Mergeable) -> bool:
    """By the hashes of both cards, else by the names of the folders, which copies may change."""
    if first.base_hash and other.base_hash:
        return first.base_hash == other.base_hash
    names = {Path(one.adapter.base).name.casefold() for one in (first, other) if one.adapter.base}
    return len(names) < 2


def weights_of(given: Sequence[float], count: int) -> tuple[float, ...]:
    """A weight per adapter, equal shares where none are given; raises MergeError for others than needed."""
    if not given:
        return (1 / count,) * count
    if len(given) != count:
        raise MergeError(f"--weights names {len(given)} weights for {count} adapters; give one for each")
    if not any(given) or not all(abs(weight) < float("inf") for weight in given):
        raise MergeError(f"--weights {' '.join(f'{w:g}' for w in given)}: give numbers, not all of them 0")
    return tuple(given)


def density_of(given: float | None, method: Method) -> float | None:
    """The share of weights that stays, .5 by default; None for methods that drop none.

    Raises MergeError for one outside (0, 1], or given to a method that drops none.
    """
    if method not in PRUNING:
        if given is not None:
            raise MergeError(
                f"--density is for {', '.join(PRUNING)}; {method} drops no weights, leave it out"
            )
        return None
    density = 0.5 if given is None else given
    if not 0.0 < density <= 1.0:
        raise MergeError(f"--density {density:g}: give a share above 0, up to 1")
    return density

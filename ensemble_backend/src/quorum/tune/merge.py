# SPDX-License-Identifier: Apache-2.0
"""Merge LoRA adapters of one base into one adapter, by PEFT's ``add_weighted_adapter``.

Methods: ``linear``, ``svd`` and ``cat`` add up the adapters (Ilharco et al., "Editing models with task
arithmetic", arXiv 2212.04089); ``ties`` drops small weights and resolves signs (Yadav et al., arXiv
2306.01708); ``dare_*`` drop weights at random and scale up the rest (Yu et al., arXiv 2311.03099). Only
``cat`` and ``svd`` add up the updates themselves: the others treat the two factors of each update apart.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from quorum.build.lora import CONFIG, WEIGHTS
from quorum.runtimes.tuned_prompt import AskedPrompt, TunedPrompts, read_tuned_prompts
from quorum.tune.adapter_rules import (
    Mergeable,
    MergeError,
    Method,
    density_of,
    read_all,
    weights_of,
)
from quorum.tune.base import loading, read_base
from quorum.tune.card import CARD_FILE, Card, CardError, library_versions, read_card, write_card
from quorum.tune.folder import reserved, whole_folder
from quorum.tune.loop import check_seed
from quorum.tune.tuned_on import TUNED_ON_FILE, read_tuned_on, write_tuned_on

if TYPE_CHECKING:
    from peft import PeftModel

MERGED = "merged"


def merge(
    adapters: Sequence[Path],
    base: Path,
    out: Path,
    method: Method,
    weights: Sequence[float] = (),
    density: float | None = None,
    seed: int = 0,
    remarks: tuple[str, ...] = (),
) -> Card:
    """Merge adapters, and write the result in PEFT's format with its card.

    ``out`` appears complete or not at all.

    Args:
        adapters: Folders of two LoRA adapters or more.
        base: Folder of the model that all of them were trained on.
        out: Folder to make.
        method: See above.
        weights: One for each adapter; (): equal shares.
        density: Share of the weights that stays, for methods that drop some; None: .5.
        seed: Of the weights that ``dare_*`` drop.
        remarks: For the card.

    Returns:
        The card, without scores.

    Raises:
        BuildError: A folder is no LoRA adapter, or not one of this base.
        MergeError: PEFT would merge them wrongly; or ``out`` exists, or a setting does not fit.
        CardError: An adapter's card cannot be read.
        BaseModelError: The base cannot be used.
        TrainingError: A seed that PyTorch does not take, or another run writes to ``out``.
    """
    check_seed(seed)
    if out.exists():
        raise MergeError(f"{out} exists already; name another folder with --out, or remove it")
    found = read_all(adapters, base, method)
    weights, density = weights_of(weights, len(found)), density_of(density, method)
    cards = [read_card(path) if (path / CARD_FILE).is_file() else None for path in adapters]
    card = replace(_card(found, cards, base, method, weights, density, seed), remarks=remarks)
    with reserved(out), whole_folder(out) as folder:
        scratch = folder / "scratch"
        _merged(found, base, method, weights, density, seed).save_pretrained(
            scratch, selected_adapters=[MERGED]
        )
        # PEFT gives an adapter with a name a folder of its own, and adds a README to fill in.
        for name in (CONFIG, WEIGHTS):
            (scratch / MERGED / name).rename(folder / name)
        shutil.rmtree(scratch)
        if card.tuned_on:
            write_tuned_on(folder, (line for path in adapters for line in read_tuned_on(path)))
        write_card(card, folder)
    return card


def _merged(
    adapters: Sequence[Mergeable],
    base: Path,
    method: Method,
    weights: Sequence[float],
    density: float | None,
    seed: int,
) -> PeftModel:
    """The base with all adapters, and the merged one under the name of :data:`MERGED`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    # Weights only: what is computed from them would not fit a smaller type.
    with loading(base):
        model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32)
    names = [f"adapter_{number}" for number in range(len(adapters))]
    paths = [str(one.adapter.path) for one in adapters]
    given: dict[str, Any] = {} if density is None else {"density": density}
    if method == "svd":
        given["svd_full_matrices"] = False  # the same factors, in a fraction of the time
    with warnings.catch_warnings():
        # Of names that Transformers changes, and of a density of 1, which drops nothing.
        warnings.simplefilter("ignore")
        with _loading_adapter(paths[0]):
            merged = PeftModel.from_pretrained(model, paths[0], adapter_name=names[0])
        for name, path in zip(names[1:], paths[1:], strict=True):
            with _loading_adapter(path):
                merged.load_adapter(path, adapter_name=name)
        torch.manual_seed(seed)
        merged.add_weighted_adapter(names, list(weights), MERGED, combination_type=method, **given)
    return merged


@contextmanager
def _loading_adapter(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise MergeError(f"{path}: cannot be loaded ({said:.200}); tune the adapter again") from error


def _card(
    adapters: Sequence[Mergeable],
    cards: Sequence[Card | None],
    base: Path,
    method: Method,
    weights: Sequence[float],
    density: float | None,
    seed: int,
) -> Card:
    described = read_base(base, "causal")
    for one, card in zip(adapters, cards, strict=True):
        if card and card.base_hash and card.base_hash != described.hash:
            raise MergeError(
                f"{one.adapter.path} was tuned on other weights than {base} ({card.base_hash} in its card,"
                f" {described.hash} there); name the base that it was tuned on"
            )
    known = [card for card in cards if card]
    catalogue: dict[str, str] = {}
    for card in known:
        for attribute, meaning in card.catalogue.items():
            if catalogue.setdefault(attribute, meaning) != meaning:
                raise MergeError(
                    f"{attribute!r} meant different things when the adapters were tuned (catalogue hashes"
                    f" {catalogue[attribute]} and {meaning}); tune them again on one catalogue"
                )
    prompts = _prompts([one.adapter.path for one in adapters])
    # No paths: a card is passed on with its folder.
    names = [one.adapter.path.resolve().name for one in adapters]
    settings: dict[str, Any] = {"adapters": names, "weights": list(weights)}
    if density is not None:
        settings["density"] = density
    return Card(
        tasks=tuple(dict.fromkeys(task for card in known for task in card.tasks)),
        method=method,
        architecture="causal",
        base=described.folder.name,
        base_hash=described.hash,
        base_licence=described.licence,
        seed=seed,
        settings=settings,
        catalogue=catalogue,
        prompts=prompts,
        # Of an adapter of another program its texts are not known.
        tuned_on=TUNED_ON_FILE if any(card.tuned_on for card in known) else "",
        libraries=library_versions(),
    )


def _prompts(folders: Sequence[Path]) -> Mapping[str, Any]:
    """The prompts of all adapters; raises MergeError where no one member could ask them all."""
    together: TunedPrompts | None = None
    for folder in folders:
        try:
            tuned = read_tuned_prompts(folder)
        except ValueError as error:
            raise CardError(str(error)) from error
        if tuned is None:
            continue
        together = together or TunedPrompts(tuned.style, tuned.chat, ())
        for what in ("style", "chat"):
            if getattr(tuned, what) != getattr(together, what):
                raise MergeError(
                    f"{folder}: tuned on prompts of {what} {getattr(tuned, what)!r}, another adapter on"
                    f" {getattr(together, what)!r}; a member asks in one way only: tune them alike"
                )
        together = TunedPrompts(together.style, together.chat, _joined(folder, together.asked, tuned.asked))
    return msgspec.to_builtins(together) if together else {}


def _joined(
    folder: Path, asked: Sequence[AskedPrompt], more: Sequence[AskedPrompt]
) -> tuple[AskedPrompt, ...]:
    hashes = {one.attributes: one.hash for one in asked}
    for one in more:
        if hashes.setdefault(one.attributes, one.hash) != one.hash:
            raise MergeError(
                f"{folder}: tuned on another prompt for {', '.join(one.attributes)} than another adapter"
                f" ({one.hash} and {hashes[one.attributes]}); tune them again on one catalogue"
            )
    return tuple(AskedPrompt(attributes, value) for attributes, value in hashes.items())

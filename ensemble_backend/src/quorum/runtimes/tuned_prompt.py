# SPDX-License-Identifier: Apache-2.0
"""Refuse to serve an LLM that was tuned on other prompts than it would get.

``quorum tune`` writes a ``card.json`` next to the weights, of an adapter or of a whole checkpoint, with the
hash of each prompt that it trained on. Asked in any other words such a model answers worse or not at all, and
nothing else would show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import Style, prompt_hash

if TYPE_CHECKING:
    from quorum.runtimes.base import RuntimeSettings
    from quorum.runtimes.option_base import Options

CARD = "card.json"


class AskedPrompt(msgspec.Struct, frozen=True):
    """The hash of the prompt for these attributes (:func:`quorum.tasks.prompt.prompt_hash`)."""

    attributes: tuple[str, ...]
    hash: str


class TunedPrompts(msgspec.Struct, frozen=True):
    """What an LLM was tuned on; the key ``prompts`` of its card.

    Attributes:
        style: See :func:`quorum.tasks.prompt.build_prompt`.
        chat: Whether the chat template was applied.
        asked: A prompt for each set of attributes that was asked for together.
    """

    style: Style
    chat: bool
    asked: tuple[AskedPrompt, ...]


class Changed(NamedTuple):
    """A prompt that is not the one of the training."""

    attributes: tuple[str, ...]
    tuned: str
    now: str


class _Card(msgspec.Struct):
    # Empty on the card of an encoder, which gets no prompts.
    prompts: dict[str, msgspec.Raw] | None = None


def prompts_for(
    catalogue: Catalogue, style: Style, chat: bool, asked: Iterable[tuple[str, ...]]
) -> TunedPrompts:
    """The prompts for each of these sets of attributes, for a card."""
    hashes = tuple(AskedPrompt(names, prompt_hash(catalogue, style, names)) for names in asked)
    return TunedPrompts(style, chat, hashes)


def read_tuned_prompts(folder: Path) -> TunedPrompts | None:
    """The prompts of a folder's card; None where it has no card, or one without prompts.

    Raises:
        ValueError: The card cannot be read; the message names it.
    """
    file = folder / CARD
    if not file.is_file():
        return None
    try:
        prompts = msgspec.json.decode(file.read_bytes(), type=_Card).prompts
        return msgspec.json.decode(msgspec.json.encode(prompts), type=TunedPrompts) if prompts else None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}); tune again, or remove the card to serve without its checks"
        ) from error


def changed_prompts(
    tuned: TunedPrompts, catalogue: Catalogue, style: Style, asked: Callable[[str], bool] = lambda _: True
) -> list[Changed]:
    """Prompts that differ now.

    Sets with an attribute that the catalogue does not have, or that is not ``asked`` of this LLM, are not
    compared.
    """
    changed = []
    for prompt in tuned.asked:
        if not all(name in catalogue.attributes and asked(name) for name in prompt.attributes):
            continue
        now = prompt_hash(catalogue, style, prompt.attributes)
        if now != prompt.hash:
            changed.append(Changed(prompt.attributes, prompt.hash, now))
    return changed


def check_prompts(settings: RuntimeSettings[Options]) -> None:
    """Raise RuntimeConfigError if the member's model or adapters were tuned on other prompts.

    Settings without a prompt style are not checked, nor folders without a card.
    """
    if settings.style is None:
        return
    options = settings.options
    for name in options.adapters_used:
        if not (name or options.llm):
            continue
        folder = settings.root / (name or options.llm)
        try:
            tuned = read_tuned_prompts(folder)
        except ValueError as error:
            raise settings.error(str(error)) from error
        if tuned is None:
            continue
        asked = partial(_answers, options, name)
        changed = changed_prompts(tuned, settings.catalogue, settings.style, asked)
        if changed:
            raise settings.error(_refusal(folder, tuned, settings.style, changed[0]))
        chat = getattr(options, "chat", None)
        if chat is not None and chat != tuned.chat:
            raise settings.error(
                f"{folder} was tuned {'with' if tuned.chat else 'without'} the chat template, and `chat:"
                f" {str(chat).lower()}` would ask it otherwise; set `chat: {str(tuned.chat).lower()}` in its"
                " options, or tune it again"
            )


def _answers(options: Options, adapter: str | None, attribute: str) -> bool:
    """Whether this adapter, or with None the LLM without one, answers the attribute."""
    return options.adapter_by_attribute.get(attribute, options.usual_adapter) == adapter


def _refusal(folder: Path, tuned: TunedPrompts, style: Style, changed: Changed) -> str:
    if tuned.style != style:
        fix = f"it was tuned on prompts of style {tuned.style!r}; set `prompt: {tuned.style}` for this member"
    else:
        fix = "set its attributes in the catalogue as they were, or tune it again with `quorum tune`"
    return (
        f"{folder} was tuned on another prompt for {', '.join(changed.attributes)}: {changed.tuned} in its"
        f" {CARD}, {changed.now} by this deployment (style {style!r}); {fix}"
    )

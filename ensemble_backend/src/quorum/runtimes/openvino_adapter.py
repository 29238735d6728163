# SPDX-License-Identifier: Apache-2.0
"""Read a PEFT adapter for OpenVINO GenAI, which knows its matrices but not its settings."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.option_base import Count
from quorum.runtimes.options import OpenVinoOptions
from quorum.runtimes.plain_lora import more_than_plain


class _Settings(msgspec.Struct):
    r: Count
    lora_alpha: float = 8
    use_rslora: bool = False


def adapter_scale(settings: RuntimeSettings[OpenVinoOptions]) -> float | None:
    """The factor of a member's adapter by its settings; None: it has no adapter.

    Raises:
        RuntimeConfigError: The settings cannot be read, or it has parts that GenAI would leave out.
    """
    if settings.options.lora is None:
        return None
    folder = settings.root / settings.options.lora
    try:
        config = msgspec.json.decode((folder / "adapter_config.json").read_bytes(), type=dict[str, Any])
        found = msgspec.convert(config, _Settings)
    except (OSError, ValueError, RecursionError) as error:
        raise settings.error(f"lora: {folder / 'adapter_config.json'} cannot be read ({error})") from error
    if more := more_than_plain(config, applied=frozenset({"use_rslora"})):
        raise settings.error(
            f"lora: the adapter in {folder} has {more}, which OpenVINO GenAI does not apply; merge it"
            " into the checkpoint with PEFT's merge_and_unload and `quorum build` that"
        )
    return found.lora_alpha / (math.sqrt(found.r) if found.use_rslora else found.r)


def read_adapter(settings: RuntimeSettings[OpenVinoOptions]) -> Any:
    """The adapter of a member's options, as a property of its pipeline; None: it has none.

    It is applied to all questions: this version ignores the adapters of single requests between steps. Its
    matrices are applied apart from the weights, which may thus be quantised.

    Raises:
        RuntimeConfigError: The adapter cannot be read, or has parts that GenAI would leave out.
    """
    import openvino_genai as genai

    scale = adapter_scale(settings)
    if scale is None:
        return None
    folder = settings.root / str(settings.options.lora)
    try:
        adapter = genai.Adapter(str(folder / "adapter_model.safetensors"))
    except RuntimeError as error:
        raise settings.error(f"lora: the adapter in {folder} cannot be read ({error})") from error
    opened = genai.AdapterConfig(genai.AdapterConfig.Mode.MODE_STATIC)
    opened.add(adapter, scale)
    return opened

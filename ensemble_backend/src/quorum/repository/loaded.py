# SPDX-License-Identifier: Apache-2.0
"""Find what a server loads in a repository, which `quorum apply` may have changed since the server began."""

from __future__ import annotations

from pathlib import Path

from quorum.repository.configs import HEADER
from quorum.repository.store import CONFIG_FILE, read_text
from quorum.runtimes.engine_names import ENCODER_PREFIX, PREFIX
from quorum.serving.copies import is_copy
from quorum_contract import CHANNELS, LAZY_OF, RECOMMEND_CHANNELS, RETRIEVER

_CHANNELS = (*CHANNELS, *LAZY_OF.values())


def rendered_models(repository: Path) -> list[str]:
    """Models whose configuration was rendered, also copies."""
    models = (path.parent.name for path in repository.glob(f"*/{CONFIG_FILE}"))
    return sorted(m for m in models if (read_text(repository / m / CONFIG_FILE) or "").startswith(HEADER))


def models_in(repository: Path, *, with_retriever: bool) -> list[str]:
    """Models that a server is started with; a copy is loaded by the channel that asks it, if any does."""
    of_retriever = (RETRIEVER, *RECOMMEND_CHANNELS)
    models = [model for model in rendered_models(repository) if not is_copy(model)]
    if not with_retriever:
        encoders = f"{ENCODER_PREFIX}{RETRIEVER}_"
        models = [m for m in models if m not in of_retriever and not m.startswith(encoders)]
    return sorted(models, key=lambda model: model in (*_CHANNELS, *RECOMMEND_CHANNELS))


def steps_in(repository: Path) -> set[str]:
    """Models that have a process of their own."""
    channels = (*_CHANNELS, *RECOMMEND_CHANNELS)
    models = models_in(repository, with_retriever=True)
    return {m for m in models if m not in channels and not m.startswith((PREFIX, ENCODER_PREFIX))}


def channels_in(repository: Path) -> tuple[str, ...]:
    """The channels for attributes."""
    return tuple(name for name in _CHANNELS if name in rendered_models(repository))

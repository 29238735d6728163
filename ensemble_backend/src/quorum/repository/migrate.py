# SPDX-License-Identifier: Apache-2.0
"""Derive ``state.json`` from the configurations of an earlier release, once, in ``quorum render``.

Those releases kept versions, pins and share in the rendered configurations alone. Nothing else reads
Triton's files back.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from quorum.repository.configs import parse_config, settings_of, vote_step
from quorum.repository.state import RepositoryError, State
from quorum.repository.store import CONFIG_FILE, Store
from quorum_contract import CHANNELS, GATE, VOTE


class _GateSettings(msgspec.Struct):
    canary_share: float = 0.0


def state_of_configs(store: Store) -> State | None:
    """Read versions, pins and share from rendered configurations; ``None`` when there are none."""
    configs = {model: _parsed(store, model) for model in (VOTE, GATE, *CHANNELS)}
    if not any(configs.values()):
        return None
    if store.pending_path.exists():
        raise RepositoryError(
            f"{store.pending_path}: a change was interrupted; let the release that made it undo it first "
            "(`quorum up`), then run `quorum render`"
        )
    vote, gate = configs[VOTE], configs[GATE]
    versions = list(vote.version_policy.specific.versions) if vote else store.versions_on_disk()
    pins = dict.fromkeys(CHANNELS, versions[0] if versions else 1)
    for channel in CHANNELS:
        config = configs[channel]
        if config is not None:
            step = vote_step(config)
            if step is None:
                raise _damaged(store.path / channel / CONFIG_FILE, f"no step asks {VOTE!r}")
            pins[channel] = int(step.model_version)
    try:
        settings = msgspec.json.decode((gate and settings_of(gate)) or "{}", type=_GateSettings)
        return State(tuple(sorted({*(versions or [1])})), pins, settings.canary_share)
    except (ValueError, RecursionError) as error:
        raise _damaged(store.path, str(error)) from error


def _parsed(store: Store, model: str) -> pb.ModelConfig | None:
    text = store.read_config(model)
    try:
        return None if text is None else parse_config(text)
    except text_format.ParseError as error:
        raise _damaged(store.path / model / CONFIG_FILE, f"not a Triton configuration ({error})") from error


def _damaged(path: Path, why: str) -> RepositoryError:
    return RepositoryError(
        f"{path}: {why}; restore it from version control, or remove it, run `quorum render` and promote a "
        "version again"
    )

# SPDX-License-Identifier: Apache-2.0
"""Derive ``state.json`` from the configurations of an earlier release, once, in ``quorum render``.

Those releases kept versions, pins and share in the rendered configurations alone. Nothing else reads
Triton's files back.
"""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from quorum.repository.configs import parse_config, vote_step
from quorum.repository.state import RepositoryError, State
from quorum.repository.store import CONFIG_FILE, Store
from quorum_contract import CHANNELS, GATE, VOTE


def state_of_configs(store: Store) -> State | None:
    """Read versions, pins and share from rendered configurations; ``None`` when there are none.

    Raises:
        RepositoryError: A configuration cannot be read, or a change was interrupted.
    """
    configs = {model: _parsed(store, model) for model in (VOTE, GATE, *CHANNELS)}
    if not any(configs.values()):
        return None
    pending = store.pending_path
    if pending.exists():
        raise RepositoryError(
            f"{pending}: a change was interrupted; let the release that made it undo it first "
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
    settings = gate.parameters["quorum"].string_value if gate and "quorum" in gate.parameters else "{}"
    try:
        share = float(json.loads(settings).get("canary_share", 0.0))
        return State(tuple(sorted({*(versions or [1])})), pins, share)
    except ValueError as error:
        raise _damaged(store.path, str(error)) from error


def _parsed(store: Store, model: str) -> pb.ModelConfig | None:
    path = store.path / model / CONFIG_FILE
    try:
        return parse_config(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except text_format.ParseError as error:
        raise _damaged(path, f"not a Triton configuration ({error})") from error


def _damaged(path: Path, why: str) -> RepositoryError:
    return RepositoryError(
        f"{path}: {why}; restore it from version control, or remove it, run `quorum render` and promote a "
        "version again"
    )

# SPDX-License-Identifier: Apache-2.0
"""Rollouts in a process that kills itself, as ``kill -9`` would, at a named step.

The product knows nothing of it: the steps are wrapped from outside.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from support.forking import context
from support.killing import die_before

from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.repository.history import History
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout
from quorum.rollout.journal import Journal
from quorum.rollout.retriever import RetrieverKind
from quorum.server.control import Control
from quorum.server.probe import probe_channel, probe_recommend

WRAPPED: dict[str, tuple[Any, str]] = {
    "note": (Journal, "begin"),
    "folder": (Store, "add_folder"),
    "rename": (Path, "rename"),
    "state": (Store, "write_state"),
    "configuration": (Store, "write_config"),
    "replace": (Path, "replace"),
    "load": (Control, "load"),
    "log": (History, "append"),
    "clear": (Journal, "clear"),
    "remove": (Store, "remove_version"),
}
"""Name of a step -> what does it. ``before X#2``: just before it is done for the second time."""

OPERATION = "operation#"
"""``operation#3``: before three file operations in the repository are done."""
_STATE = ["before state", "after state"]
_PIN = [
    "before note", "after note", *_STATE, "before configuration", "before replace#3", "after configuration",
]  # fmt: skip
_LOADED = ["before load", "after load", "before log", "after log", "after clear"]
STEPS: dict[str, list[str]] = {
    "publish": [
        *_PIN[:2], "before folder", "before rename", "after folder", *_STATE, "before configuration",
        "after configuration", *_LOADED,
    ],
    "promote": [*_PIN, *_LOADED],
    "canary": [*_PIN, *_LOADED],
    "rollback": [*_PIN, *_LOADED],
    "retire": [*_PIN, *_LOADED],
    "failing publish": [
        "before state#2", "after state#2", "before configuration#2",
        "after configuration#2", "before remove", "after rename#2", "after remove",
        "before load#2", "before log", "after log", "after clear",
    ],
}  # fmt: skip
"""Change -> the steps at which it is killed; a publish that fails is killed while it is taken back."""


def start(deploy: Path, url: str, key: str, action: str, argument: Any, step: str = "") -> Any:
    """Start a change in a process of its own; its event ``begun`` is set when the change begins."""
    begun = context.Event()
    how = (deploy, url, key, action, argument, step, begun)
    process: Any = context.Process(target=_change, args=how, daemon=True)
    process.start()
    process.begun = begun
    return process


def _change(deploy: Path, url: str, key: str, action: str, argument: Any, step: str, begun: Any) -> None:
    spec = load_deployment(deploy)
    with Control(url, key) as control:
        probe: Callable[[str], int] = partial(probe_channel, spec, url)
        rollout = Rollout(spec, control, probe)
        if isinstance(argument, Path):
            rollout = Rollout(spec, control, partial(probe_recommend, url), kind=RetrieverKind)
        if action == "failing publish":
            answers = Counter[str]()

            def failing(channel: str) -> int:
                answers[channel] += 1
                return probe(channel) if answers[channel] == 1 else -1

            rollout = Rollout(spec, control, failing)
        if step.startswith(OPERATION):
            die_before(int(step.removeprefix(OPERATION)), spec.repository_path)
        elif step:
            _arm(step)
        begun.set()
        match action:
            case "publish" | "failing publish":
                assert isinstance(argument, Weights | Path)
                rollout.publish(argument)
            case "rollback":
                rollout.rollback()
            case "both":
                rollout.promote(rollout.publish(argument).version)
            case _:
                getattr(rollout, action)(argument)


def _arm(step: str) -> None:
    wanted, _, number = step.partition("#")
    seen = Counter[str]()

    def reached(label: str) -> None:
        seen[label] += 1
        if label == wanted and seen[label] == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    for name, (owner, attribute) in WRAPPED.items():
        real = getattr(owner, attribute)

        def wrapped(*args: Any, real: Any = real, name: str = name, **how: Any) -> Any:
            reached(f"before {name}")
            result = real(*args, **how)
            reached(f"after {name}")
            return result

        setattr(owner, attribute, wrapped)

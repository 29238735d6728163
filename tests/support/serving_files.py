# SPDX-License-Identifier: Apache-2.0
"""A server without Triton: it keeps what it loaded from a repository, and can be told to fail."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from quorum.repository import configs
from quorum.repository.configs import graph_of, parse_config
from quorum.repository.state import VERSIONED
from quorum.repository.store import Store
from quorum.retrieval.manifest import check_retriever
from quorum.server.control import ControlError
from quorum_contract import CHANNELS, LAZY_CHANNELS, RECOMMEND_CHANNELS, RETRIEVER, VOTE

PINNED = {
    **dict.fromkeys((*CHANNELS, *LAZY_CHANNELS), VOTE),
    **dict.fromkeys(RECOMMEND_CHANNELS, RETRIEVER),
}
"""Channel -> the model that it is pinned to a version of."""


class Files:
    """Starts from what lies in a repository, all or nothing; files count only once they are loaded."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failures: dict[str, list[BaseException | None]] = {}
        self.versions: dict[str, list[int]] = {}
        self.answers: dict[str, int] = {}
        for model in (*VERSIONED, *PINNED):
            if store.read_config(model) is not None:
                self.load(model)

    def ping(self) -> None:
        pass

    def load(self, model: str) -> None:
        self._fail(model)
        config = self._config(model)
        if config is None:
            raise ControlError(f"{model} has no configuration")
        if model in VERSIONED:
            versions = list(config.version_policy.specific.versions)
            for version in versions:
                self._open(model, version)
            self.versions[model] = versions
        elif model in PINNED:
            step = next(s for s in config.ensemble_scheduling.step if s.model_name == PINNED[model])
            if step.model_version not in self.versions.get(PINNED[model], []):
                raise ControlError(f"{model} is pinned to version {step.model_version}, which is not loaded")
            self.answers[model] = int(step.model_version)

    def unload(self, model: str) -> None:
        self._fail(f"unload {model}")
        self.versions.pop(model, None)
        self.answers.pop(model, None)

    def runs(self, model: str, config: ModelConfig) -> bool:
        found = self._config(model)
        return found is not None and graph_of(found) == graph_of(config)

    def pinned(self, channel: str) -> int:
        return self.answers[channel]

    def is_ready(self, model: str, version: str = "") -> bool:
        return model in self.answers or int(version) in self.versions.get(model, [])

    def probe(self, channel: str) -> int:
        self._fail(f"probe {channel}")
        if self.answers.get(channel) not in self.versions.get(PINNED[channel], []):
            raise ControlError(f"{channel} is not available")
        return self.answers[channel]

    def _fail(self, what: str) -> None:
        failure = self.failures[what].pop(0) if self.failures.get(what) else None
        if failure:
            raise failure

    def _config(self, model: str) -> ModelConfig | None:
        text = self.store.read_config(model)
        return None if text is None else parse_config(text)

    def _open(self, model: str, version: int) -> None:
        if model == VOTE:
            self.store.weights(version)
        else:
            check_retriever(self.store.version_folder(model, version))


def parse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse equal configurations once: it is what takes most of the time of a change."""
    parsed = functools.cache(configs.parse_config)
    for module in (configs, sys.modules[__name__]):
        monkeypatch.setattr(module, "parse_config", parsed)


def files_in(repository: Path) -> dict[str, bytes]:
    """Every file of a repository but the log and the lock."""
    skip = ("rollout.jsonl", ".rollout.lock")
    files = (path for path in repository.rglob("*") if path.is_file() and path.name not in skip)
    return {str(path.relative_to(repository)): path.read_bytes() for path in files}

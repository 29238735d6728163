# SPDX-License-Identifier: Apache-2.0
"""A server that loads models from files as Triton does, and outlives the process that makes it load them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from quorum.repository.configs import graph_of, parse_config, vote_step
from quorum.repository.loaded import models_in
from quorum.repository.store import Store
from quorum.rollout.channels import RolloutError
from quorum.serving.copies import copy_of, is_copy, original_of
from quorum.tasks.catalogue import CATALOGUE_FILE
from quorum_contract import GATE, VOTE

Loaded = dict[str, list[str]]
"""Model -> the configuration and the catalogue that it was loaded with; of a channel the configuration."""


class GraphServer:
    """Its memory is a file next to the repository, so that a killed command leaves it as it was.

    Attributes:
        fails: Whether a channel that asks these steps answers wrongly.
        stuck: Models that cannot be unloaded.
    """

    def __init__(self, repository: Path, memory: Path) -> None:
        self.store, self.memory = Store(repository), memory
        self.fails: Callable[[str, list[str]], bool] = lambda channel, steps: False
        self.stuck: set[str] = set()
        if not memory.exists():
            self.start()

    def start(self) -> None:
        """Start from the files, all or nothing."""
        self.write({})
        for model in models_in(self.store.path, with_retriever=False):
            self.load(model)

    def read(self) -> Loaded:
        loaded: Loaded = json.loads(self.memory.read_text("utf-8"))
        return loaded

    def write(self, loaded: Loaded) -> None:
        self.memory.write_text(json.dumps(loaded), encoding="utf-8")

    def ping(self) -> None:
        pass

    def load(self, model: str) -> None:
        loaded = self.read()
        loaded[model] = self._loadable(model, loaded)
        self.write(loaded)

    def _loadable(self, model: str, loaded: Loaded) -> list[str]:
        text = self.store.read_config(model)
        if text is None:
            raise RolloutError(f"no model {model}")
        config = parse_config(text)
        steps = [step.model_name for step in config.ensemble_scheduling.step]
        if not steps:
            for version in config.version_policy.specific.versions:
                assert (self.store.path / model / str(version) / "weights.json").exists()
            folder = copy_of(GATE) if is_copy(model) else GATE
            catalogue = self.store.path / folder / CATALOGUE_FILE
            if not catalogue.exists():
                catalogue = self.store.path / GATE / CATALOGUE_FILE
            return [text, catalogue.read_text("utf-8")]
        for step in steps:
            if step not in loaded:
                loaded[step] = self._loadable(step, loaded)
        for step in steps:
            wanted = {t.name for t in parse_config(loaded[step][0]).input if not t.optional}
            if original_of(step) == VOTE and (missing := wanted - {"QUESTION", *_votes_in(config)}):
                raise RolloutError(f"{model}: {step} lacks {missing}")
        return [text, ""]

    def unload(self, model: str) -> None:
        if model in self.stuck:
            raise RolloutError(f"{model} cannot be unloaded")
        loaded = self.read()
        users = [m for m, parts in loaded.items() if model in _steps(parts[0])]
        assert not users, f"{model} is unloaded while {users} ask it"
        loaded.pop(model, None)
        self.write(loaded)

    def is_ready(self, model: str, version: str = "") -> bool:
        return model in self.read()

    def runs(self, model: str, config: ModelConfig) -> bool:
        loaded = self.read()
        return model in loaded and graph_of(parse_config(loaded[model][0])) == graph_of(config)

    def pinned(self, channel: str) -> int:
        return int(vote_step(parse_config(self.read()[channel][0])).model_version)

    def probe(self, channel: str) -> int:
        """The version that a channel answers with; an error where its steps have different catalogues."""
        loaded = self.read()
        config = parse_config(loaded[channel][0])
        steps = [step.model_name for step in config.ensemble_scheduling.step]
        assert all(step in loaded for step in steps), f"{channel} asks what is not loaded"
        assert len({loaded[step][1] for step in steps}) == 1, f"{channel} has two catalogues"
        if self.fails(channel, steps):
            raise RolloutError(f"{channel} decides nothing")
        found = (s for s in config.ensemble_scheduling.step if original_of(s.model_name) == VOTE)
        return int(next(found).model_version)


def _steps(text: str) -> list[str]:
    return [step.model_name for step in parse_config(text).ensemble_scheduling.step]


def _votes_in(config: ModelConfig) -> set[str]:
    return {name for step in config.ensemble_scheduling.step for name in step.output_map.values()}

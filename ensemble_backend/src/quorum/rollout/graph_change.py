# SPDX-License-Identifier: Apache-2.0
"""The files of a repository before and after ``quorum apply``, and the models that follow from them.

Of a graph that serves, no two steps can be replaced in one moment, but a channel can: a request takes all its
steps when it enters a channel. So where more than one step changes, copies of the changed steps are loaded
next to them, the channels go over to the copies, the steps are changed, and the channels go back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from quorum.decision.weights import WEIGHTS_FILE, Weights, dumps
from quorum.deployment.schema import Deployment
from quorum.repository.configs import channel_config, parse_config, print_config
from quorum.repository.lazy_rows import lazy_rows
from quorum.repository.loaded import rendered_models
from quorum.repository.render import rendered_files
from quorum.repository.state import STATE_FILE, State, dump_state
from quorum.repository.store import CONFIG_FILE, KEEP_FILE, Store, read_text
from quorum.runtimes.engine_names import ENCODER_PREFIX, PREFIX
from quorum.serving.copies import copy_of, is_copy
from quorum.tasks.catalogue import CATALOGUE_FILE
from quorum_contract import CHANNELS, GATE, LAZY_OF, MEMBER_BACKEND, RECOMMEND_CHANNELS, RETRIEVER, VOTE

Files = dict[str, str | None]
"""Path in the repository -> content; None: there is no such file."""
CATALOGUE_PATH = f"{GATE}/{CATALOGUE_FILE}"
ANSWERING = (*CHANNELS, *LAZY_OF.values())
"""All channels for attributes that a deployment can have."""
INNER = (PREFIX, ENCODER_PREFIX)
"""How models begin that Triton computes itself."""
_OF_RETRIEVER = (RETRIEVER, *RECOMMEND_CHANNELS)


class GraphChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """What of a repository changes, as its journal holds it.

    Attributes:
        old: The state before.
        new: The state after.
        before: The files that change, as they were.
        after: The same files, as they will be.
        channels: Channel for attributes -> its configuration after the change, of all that there are then.
        weights: The text of the new version of the weights; None: no version is added.
        version: Its number.
    """

    old: State
    new: State
    before: Files
    after: Files
    channels: dict[str, str]
    weights: str | None = None
    version: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the repository is as the deployment says already."""
        return not self.after

    @property
    def changes_catalogue(self) -> bool:
        """Whether every step has to read another catalogue."""
        return CATALOGUE_PATH in self.after

    @cached_property
    def added(self) -> tuple[str, ...]:
        """Models that are not there yet, those first that others ask."""
        return _in_order(m for m, text in _configs(self.after).items() if text and not self._was(m))

    @cached_property
    def removed(self) -> tuple[str, ...]:
        """Models that are no longer there, channels first."""
        return tuple(reversed(_in_order(m for m, text in _configs(self.after).items() if text is None)))

    @cached_property
    def changed(self) -> tuple[str, ...]:
        """Steps that stay, and need another configuration or catalogue."""
        models = [m for m, text in _configs(self.after).items() if text and self._was(m)]
        return _in_order(model for model in models if model not in (*ANSWERING, *_OF_RETRIEVER))

    @cached_property
    def of_retriever(self) -> tuple[str, ...]:
        """Models of the retriever that change; a request has only one step there."""
        return tuple(m for m in _OF_RETRIEVER if f"{m}/{CONFIG_FILE}" in self.after)

    @cached_property
    def changed_channels(self) -> tuple[str, ...]:
        """Channels for attributes that change or are new."""
        return tuple(name for name in self.channels if f"{name}/{CONFIG_FILE}" in self.after)

    @cached_property
    def copied(self) -> tuple[str, ...]:
        """Steps whose copies serve while they are changed: none, if a request can see only one change."""
        if not self.changed or (len(self.changed) == 1 and not self.changed_channels):
            return ()
        return _in_order((*self.changed, *(self.joining if self.changes_catalogue else ())))

    @cached_property
    def joining(self) -> tuple[str, ...]:
        """Models of members that are new."""
        return tuple(m for m in self.added if m not in (*ANSWERING, *_OF_RETRIEVER) and self._is_step(m))

    def pins(self) -> dict[str, int]:
        """Channel for attributes -> its version of the weights after the change."""
        pins = {**self.new.pins, **{lazy: self.new.pins[name] for name, lazy in LAZY_OF.items()}}
        return {channel: pins[channel] for channel in self.channels}

    def copies(self) -> dict[str, str]:
        """Path in the repository -> content, for all files of the copies but the weights."""
        files = {}
        for model in self.copied:
            config = parse_config(self.after[f"{model}/{CONFIG_FILE}"] or "")
            config.name = copy_of(model)
            if model == VOTE:
                del config.version_policy.specific.versions[:]
                config.version_policy.specific.versions.extend(sorted({*self.new.pins.values()}))
            else:
                files[f"{config.name}/{KEEP_FILE}"] = ""
            files[f"{config.name}/{CONFIG_FILE}"] = print_config(config)
        if GATE in self.copied and self.changes_catalogue:
            files[f"{copy_of(GATE)}/{CATALOGUE_FILE}"] = self.after[CATALOGUE_PATH] or ""
        return files

    def channel_of_copies(self, channel: str) -> str:
        """The configuration of a channel that asks the copies."""
        config = parse_config(self.channels[channel])
        for step in config.ensemble_scheduling.step:
            if step.model_name in self.copied:
                step.model_name = copy_of(step.model_name)
        return print_config(config)

    def _was(self, model: str) -> bool:
        return self.before[f"{model}/{CONFIG_FILE}"] is not None

    def _is_step(self, model: str) -> bool:
        return bool(parse_config(self.after[f"{model}/{CONFIG_FILE}"] or "").backend == MEMBER_BACKEND)


def find_change(
    spec: Deployment, store: Store, weights: Weights | None = None, version: int | None = None
) -> GraphChange:
    """Compare a repository with a deployment; writes nothing.

    Args:
        spec: The deployment.
        store: The repository.
        weights: Of the only version that is served after the change; None: versions and pins stay.
        version: Its number.

    Raises:
        RepositoryError: The state cannot be read, or a folder that is to be removed holds files of others.
    """
    old = store.state()
    if weights is None or version is None:
        return _change(spec, store, old, old, {})
    new = old.listing([version], dict.fromkeys(CHANNELS, version))
    new = msgspec.structs.replace(new, canary_share=0.0, versions=(version,))
    change = _change(spec, store, old, new, _lazy_files(spec, version, weights))
    return msgspec.structs.replace(change, weights=dumps(weights), version=version)


def _change(spec: Deployment, store: Store, old: State, new: State, more: Mapping[str, str]) -> GraphChange:
    wanted: Files = {STATE_FILE: dump_state(new), **rendered_files(spec, new, store.path), **more}
    models = {name.split("/")[0] for name in wanted}
    for model in rendered_models(store.path):
        if model not in models and not is_copy(model):
            wanted |= {f"{model}/{CONFIG_FILE}": None}
            wanted |= {f"{model}/{KEEP_FILE}": None} if model != RETRIEVER else {}
    before: Files = {name: read_text(store.path / name) for name in wanted}
    changed = [name for name, text in wanted.items() if before[name] != text]
    if CATALOGUE_PATH in changed:
        # Every step reads it, so all load again, with the configuration that they have.
        changed += [f"{model}/{CONFIG_FILE}" for model in (GATE, *spec.models(), VOTE)]
    changed = [*dict.fromkeys(changed)]
    configs = _configs(wanted)
    channels = {name: text for name in ANSWERING if (text := configs.get(name))}
    return GraphChange(old, new, {n: before[n] for n in changed}, {n: wanted[n] for n in changed}, channels)


def _lazy_files(spec: Deployment, version: int, weights: Weights) -> dict[str, str]:
    """Lazy channels by weights that the repository does not have yet."""
    if spec.lazy is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.add_version(version, weights)
        return {
            f"{lazy}/{CONFIG_FILE}": print_config(
                channel_config(spec, lazy, version, lazy_rows(spec, lazy, version, store.path))
            )
            for lazy in LAZY_OF.values()
        }


def weights_of_copy(version: int) -> str:
    """Path of a version's weights in the folder of the vote's copy."""
    return f"{copy_of(VOTE)}/{version}/{WEIGHTS_FILE}"


def _configs(files: Files) -> dict[str, str | None]:
    end = f"/{CONFIG_FILE}"
    return {name.removesuffix(end): text for name, text in files.items() if name.endswith(end)}


def _in_order(models: Iterable[str]) -> tuple[str, ...]:
    """Networks and engines, the gate, members, the vote, channels: each after what it asks."""
    return tuple(sorted(models, key=_rank))


def _rank(model: str) -> int:
    if model in (*ANSWERING, *RECOMMEND_CHANNELS):
        return 4
    return {GATE: 1, VOTE: 3, RETRIEVER: 3}.get(model, 0 if model.startswith(INNER) else 2)

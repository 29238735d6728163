# SPDX-License-Identifier: Apache-2.0
"""Render a model repository from a deployment and its state, and compare them with the files on disk.

Triton's files are a pure function of (deployment, state), :func:`rendered_files`. ``deploy.yaml`` describes
members, catalogue and limits; ``state.json`` holds versions, pins and the canary's share, which rendering
keeps. Of the weights only a first, equal version is rendered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from quorum.decision import weights as weights_file
from quorum.decision.weights import SCHEMA_VERSION, WEIGHTS_FILE, WeightsError, equal_weights
from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.repository.configs import HEADER, catalogue_text, member_config, print_config, state_configs
from quorum.repository.encoder_config import encoder_config, encoders
from quorum.repository.engine_config import engine_config
from quorum.repository.history import Event, History, account, timestamp
from quorum.repository.migrate import state_of_configs
from quorum.repository.state import STATE_FILE, VERSIONED, RepositoryError, State, dump_state
from quorum.repository.store import CONFIG_FILE, KEEP_FILE, Store, read_text, refused
from quorum.tasks.catalogue import CATALOGUE_FILE
from quorum_contract import CHANNELS, GATE, RETRIEVER, STABLE, VOTE

FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """Differences between a repository and its deployment and state.

    Attributes:
        write: Relative path -> new content, for files that are missing or differ.
        remove: Model folders of members that the deployment no longer has.
        misfits: Versions whose weights do not fit the deployment, with the reason.
    """

    write: dict[str, str]
    remove: list[str]
    misfits: dict[int, str]

    @property
    def names(self) -> list[str]:
        """Files to write, then folders to remove."""
        return [*sorted(self.write), *self.remove]

    @property
    def is_clean(self) -> bool:
        """Whether there is no difference."""
        return not (self.names or self.misfits)


def model_configs(spec: Deployment, state: State, repository: Path) -> dict[str, pb.ModelConfig]:
    """Model -> its configuration, for every model of the deployment in a repository."""
    configs = state_configs(spec, state, repository)
    members = {model: member_config(spec, model, members) for model, members in spec.models().items()}
    engines = {model: engine_config(spec, member) for model, member in spec.engines().items()}
    networks = {model: encoder_config(spec, member) for model, member in encoders(spec).items()}
    return {GATE: configs.pop(GATE), **members, **engines, **networks, **configs}


def rendered_files(spec: Deployment, state: State, repository: Path) -> dict[str, str]:
    """Relative path -> content of every file that Triton and the serving steps read, except weights."""
    configs = model_configs(spec, state, repository)
    files = {f"{model}/{CONFIG_FILE}": print_config(config) for model, config in configs.items()}
    files[f"{GATE}/{CATALOGUE_FILE}"] = catalogue_text(spec)
    return files | {f"{model}/{KEEP_FILE}": "" for model in configs if model not in VERSIONED}


def difference(spec: Deployment, repository: Path | None = None) -> Difference:
    """Compare a repository, by default the deployment's own, with deployment and state; write nothing."""
    store = Store(repository or spec.repository_path)
    path, state = store.path, current_state(store)
    initial = state.versions == (FIRST_VERSION,) and _is_initial(store)
    # In the order of writing: weights before the state that lists them, configurations after it.
    first = {f"{VOTE}/{FIRST_VERSION}/{WEIGHTS_FILE}": weights_file.dumps(equal_weights(spec.member_names))}
    files = (first if initial else {}) | {STATE_FILE: dump_state(state)} | rendered_files(spec, state, path)
    write = {name: text for name, text in files.items() if read_text(path / name) != text}
    expected = {name.split("/")[0] for name in files}
    # Remove only rendered folders: the repository may hold other models.
    rendered = [p.name for p in path.glob("*") if (read_text(p / CONFIG_FILE) or "").startswith(HEADER)]
    obsolete = [name for name in rendered if name not in expected]
    return Difference(write, sorted(obsolete), {} if initial else misfits(spec, store, state))


def render(spec: Deployment, repository: Path | None = None) -> Difference:
    """Write the repository that the deployment and its state describe; versions and pins stay.

    A repository without ``state.json`` gets one: from the configurations of an earlier release, else version
    1 with equal weights; the history logs it. Returns the changes; none is written where weights are
    :func:`blocking`.

    Raises:
        RepositoryError: The state, or the configurations to take it from, cannot be read; or the folder of a
            member that is gone holds files of others. Nothing is written then.
    """
    store = Store(repository or spec.repository_path)
    changes = difference(spec, store.path)
    if blocking(store, changes):
        return changes
    obsolete = [path for model in changes.remove for path in _written(store.path / model)]
    for name, text in changes.write.items():
        if name == STATE_FILE and not store.state_path.exists():
            _log_beginning(store)
        write_atomic(store.path / name, text)
    for path in obsolete:
        path.rmdir() if path.is_dir() else path.unlink()
    return changes


def blocking(store: Store, changes: Difference) -> dict[int, str]:
    """Sound weights that do not fit, with the reason: with what they need gone, no server would start.

    Damaged ones are no reason not to write: ``quorum up`` leaves them out.
    """
    damaged = refused(changes.misfits, store.weights)
    return {version: reason for version, reason in changes.misfits.items() if version not in damaged}


def _written(model: Path) -> list[Path]:
    """What rendering wrote of a model, in the order to remove it; refuses a folder with anything else."""
    if model.name == RETRIEVER:
        # Its versions stay, so that their numbers are not given again.
        return [model / CONFIG_FILE]
    own = [model / KEEP_FILE, model / "1", model / CONFIG_FILE, model]
    foreign = sorted(str(p) for p in (model, *model.rglob("*")) if p not in own or p.is_symlink())
    if foreign:
        raise RepositoryError(
            f"{model.name!r} is no longer in the deployment, but its folder holds what quorum did not write: "
            f"{', '.join(foreign[:3])}; move that away and run `quorum render` again"
        )
    return [path for path in own if path.exists()]


def current_state(store: Store) -> State:
    """The state of a repository, or the one that rendering would give it."""
    if state := store.state_if_any():
        return state
    versions = store.versions_on_disk() or [FIRST_VERSION]
    first = State(tuple(versions), dict.fromkeys(CHANNELS, versions[0]), 0.0)
    return state_of_configs(store) or first


def put_state(spec: Deployment, store: Store, models: tuple[str, ...], old: State, new: State) -> None:
    """Write the state, then the configurations of ``models``; remove those that the new state has no more.

    At every moment the configuration of a versioned model lists every version that a channel names, and each
    model that the state on disk needs has one.
    """
    configs = state_configs(spec, new, store.path)
    for model in models:
        # Nothing reads it before the state names it.
        if model in configs and store.read_config(model) is None:
            _put_config(store, model, configs[model])
    store.write_state(new)
    for model in VERSIONED:
        was, now = old.of(model), new.of(model)
        if model in models and was and now and was.pins != now.pins:
            both = new.having(model, now.listing([*was.versions, *now.versions]))
            _put_config(store, model, state_configs(spec, both, store.path)[model])
    for model in sorted(models, key=lambda model: model in VERSIONED):
        _put_config(store, model, configs.get(model))


def _put_config(store: Store, model: str, config: pb.ModelConfig | None) -> None:
    if config is None:
        store.remove_config(model)
        return
    if model not in VERSIONED and not (store.path / model / KEEP_FILE).exists():
        # Without a temporary file, which Triton would take for one of the version.
        (store.path / model / KEEP_FILE).parent.mkdir(parents=True, exist_ok=True)
        (store.path / model / KEEP_FILE).touch()
    store.write_config(model, print_config(config))


def misfits(spec: Deployment, store: Store, state: State) -> dict[int, str]:
    """Loaded versions whose weights do not fit the deployment, with the reason."""
    members, catalogue = spec.member_names, spec.catalogue()
    hashes, whole = catalogue.hashes, catalogue.hash
    return refused(state.versions, lambda version: store.weights(version).check_fits(members, hashes, whole))


def _log_beginning(store: Store) -> None:
    """Log the first state before it is written: a line without a state is harmless, the reverse is not."""
    state = state_of_configs(store)
    action, why = ("migrate", "state taken from the configurations") if state else ("render", "first state")
    version = (state or current_state(store)).pins[STABLE]
    damaged = refused([version], store.weights)
    content = "" if damaged else store.weights(version).content_hash
    step = (timestamp(), action, version, None, content, why)
    History(store.path).append(Event(*step, who=account()))


def _is_initial(store: Store) -> bool:
    """Whether no weights were ever published: the repository has none, or only the first, equal ones."""
    versions = store.versions_on_disk()
    if versions != [FIRST_VERSION]:
        return not versions
    try:
        first = store.weights(FIRST_VERSION)
    except WeightsError:
        return False
    return replace(first, schema_version=SCHEMA_VERSION) == equal_weights(first.members)

# SPDX-License-Identifier: Apache-2.0
"""From spec to model repository, and the comparison of the two.

Members, catalogue and limits come from the spec. Which versions of the weights exist and which one each
channel is pinned to is state: it lives in the repository itself and rendering keeps it. Only a first version
that nobody learned is rendered like everything else.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights, WeightsError, equal_weights
from quorum.deployment.schema import Deployment
from quorum.repository.configs import (
    HEADER,
    channel_config,
    gate_config,
    member_config,
    print_config,
    vote_config,
)
from quorum.repository.engine_config import engine_config
from quorum.repository.store import CONFIG_FILE, WEIGHTS_FILE, Store, write_atomic
from quorum_contract import CANARY, CHANNELS, GATE, STABLE, VOTE

FIRST_VERSION = 1
_KEEP_FILE = ".gitkeep"


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """What rendering would do.

    Attributes:
        write: Relative path -> new content, for files that are missing or differ.
        remove: Model folders of members that the spec no longer has.
        misfits: Versions whose weights were made for other members or another catalogue, with the reason.
    """

    write: dict[str, str]
    remove: list[str]
    misfits: dict[int, str]

    @property
    def is_clean(self) -> bool:
        """Whether the repository is exactly what the spec says."""
        return not (self.write or self.remove or self.misfits)


def plan_render(spec: Deployment, repository: Path | None = None) -> RenderPlan:
    """Compare the spec with a repository; nothing is written.

    Args:
        spec: The deployment.
        repository: The repository folder; the spec's own by default.
    """
    path = repository or spec.repository_path
    files = _files(spec, Store(path))
    write = {name: text for name, text in files.items() if _read(path / name) != text}
    expected = {name.split("/")[0] for name in files}
    # Only what was rendered is ours to remove: others may keep models in the same repository.
    rendered = [p.name for p in path.glob("*") if (_read(p / CONFIG_FILE) or "").startswith(HEADER)]
    strangers = [name for name in rendered if name not in expected]
    misfits = {} if _is_untaught(Store(path)) else _misfits(spec, Store(path))
    return RenderPlan(write, sorted(strangers), misfits)


def render(spec: Deployment, repository: Path | None = None) -> RenderPlan:
    """Make the repository what the spec says; versions and pins stay.

    Returns:
        What was done.
    """
    path = repository or spec.repository_path
    plan = plan_render(spec, path)
    for name, text in plan.write.items():
        write_atomic(path / name, text)
    for model in plan.remove:
        shutil.rmtree(path / model)
    return plan


def reset_weights(spec: Deployment, repository: Path | None = None) -> int:
    """Start again from equal weights, as a new version that both channels are pinned to.

    For a change of members or catalogue that no version on disk fits. Versions stay on disk, but those that
    do not fit are not loaded any more. The server must be stopped; a running one takes weights by a rollout.

    Returns:
        The new version.
    """
    store = Store(repository or spec.repository_path)
    fitting = [v for v in store.versions_listed() if v not in _misfits(spec, store)]
    version = max([*store.versions_on_disk(), *store.versions_listed()], default=0) + 1
    store.add_version(version, first_weights(spec))
    for channel in CHANNELS:
        store.write_config(channel, print_config(channel_config(spec, channel, version)))
    store.write_config(VOTE, print_config(vote_config(spec, [*fitting, version])))
    return version


def listed_versions(store: Store) -> list[int]:
    """Versions that the vote model loads: those its configuration lists, else all on disk, else the first."""
    return store.versions_listed() or store.versions_on_disk() or [FIRST_VERSION]


def first_weights(spec: Deployment) -> Weights:
    """Version 1 of every deployment: each member counts the same, whatever the catalogue says."""
    return equal_weights(spec.member_names)


def catalogue_text(spec: Deployment) -> str:
    """``catalogue.json``, which gate, members and vote share."""
    return json.dumps(spec.catalogue().to_json(), ensure_ascii=False, indent=2) + "\n"


def _files(spec: Deployment, store: Store) -> dict[str, str]:
    versions = listed_versions(store)
    pins = {STABLE: versions[0], CANARY: versions[0]} | store.pins()
    files = {
        f"{GATE}/{CONFIG_FILE}": print_config(gate_config(spec, store.canary_share())),
        f"{GATE}/catalogue.json": catalogue_text(spec),
    }
    for model, members in spec.models().items():
        files[f"{model}/{CONFIG_FILE}"] = print_config(member_config(spec, model, members))
    for model, member in spec.engines().items():
        files[f"{model}/{CONFIG_FILE}"] = print_config(engine_config(spec, member))
    files[f"{VOTE}/{CONFIG_FILE}"] = print_config(vote_config(spec, versions))
    for channel in CHANNELS:
        files[f"{channel}/{CONFIG_FILE}"] = print_config(channel_config(spec, channel, pins[channel]))
    # Triton wants a version folder in every model; git keeps no empty ones.
    for model in [GATE, *spec.models(), *spec.engines(), *CHANNELS]:
        files[f"{model}/1/{_KEEP_FILE}"] = ""
    if _is_untaught(store):
        files[f"{VOTE}/{FIRST_VERSION}/{WEIGHTS_FILE}"] = weights_file.dumps(first_weights(spec))
    return files


def _is_untaught(store: Store) -> bool:
    """Whether nobody ever published weights: there are none, or only the first, which counts all the same."""
    versions = store.versions_on_disk()
    if versions != [FIRST_VERSION]:
        return not versions
    try:
        first = store.weights(FIRST_VERSION)
    except WeightsError:
        return False
    return first == equal_weights(first.members)


def _misfits(spec: Deployment, store: Store) -> dict[int, str]:
    found = {}
    for version in store.versions_listed():
        try:
            store.weights(version).check_fits(spec.member_names, spec.catalogue().hash)
        except WeightsError as error:
            found[version] = str(error)
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None

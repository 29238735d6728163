# SPDX-License-Identifier: Apache-2.0
"""Check a deployment and its machine, and write the model repository that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from quorum.capacity.preflight import Preflight, preflight
from quorum.decision.catalogue_change import CatalogueChange
from quorum.decision.weights import Weights, WeightsError
from quorum.deployment.price import WITHOUT_LLM
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.operations.member_answers import foreign_members
from quorum.operations.scores import missing_scores
from quorum.records import Record, plain
from quorum.repository.render import Difference, blocking, difference
from quorum.repository.render import render as render_repository
from quorum.repository.store import Store
from quorum.retrieval.manifest import ManifestError, check_retriever
from quorum.rollout.offline import reset_weights as start_again
from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings
from quorum.runtimes.encoder_folder import open_folder
from quorum.runtimes.filled_file import check_attributes, read_products
from quorum.runtimes.lookup_options import CatalogueOptions, ReplayOptions
from quorum.runtimes.openvino_adapter import adapter_scale
from quorum.runtimes.option_base import find_missing
from quorum.runtimes.options import EncoderOptions, OpenVinoOptions, TensorRtLlmOptions
from quorum.runtimes.peft_adapter import adapters_of
from quorum.runtimes.replay import check_votes
from quorum.runtimes.tuned_prompt import check_prompts
from quorum.server.parts import missing_parts
from quorum.server.runfile import find_running
from quorum.tasks.catalogue import Catalogue
from quorum.votes.schema import how_to_fit
from quorum_contract import RETRIEVER
from quorum_contract.errors import QuorumError
from quorum_contract.usage import FREE


class MisfitError(QuorumError, ValueError):
    """A deployment names files that are missing, one line per file, or a file that cannot be used."""

    code = "DEPLOYMENT_MISFIT"


class ServedError(QuorumError, RuntimeError):
    """The deployment is being served, which this change does not allow."""

    code = "DEPLOYMENT_SERVED"


def validate(deployment: Deployment) -> tuple[str, ...]:
    """Check the files that a deployment names; nothing is changed.

    Files of filled products are read, for members of runtime ``catalogue``, and the first rows of votes
    tables, for those of ``replay``. Tuned members are checked as at their start: what encoders and LLMs were
    tuned on against the catalogue and the member's prompts, an encoder's files against their hashes, and
    adapters for parts that the runtime would leave out.

    Returns:
        Warnings about members that can start, but were tuned for no attribute of the catalogue, or have no
        price where others have one, or a budget in money that limits nothing, and about API keys, programs
        and packages that are not here: the machine that serves must have them.

    Raises:
        MisfitError: A file is missing, damaged or of another encoder, a file of products or votes cannot be
            used, an adapter cannot be served, a tuned model would be asked other than in its training, or a
            published version of the retriever is damaged.
    """
    check_files(deployment)
    if problems := [f"version {number}: {why}" for number, why in damaged_retrievers(deployment).items()]:
        raise MisfitError("\n".join(f"{deployment.repository_path / RETRIEVER}: {why}" for why in problems))
    return (
        *foreign_members(deployment),
        *unpriced_members(deployment),
        *uncounted_budgets(deployment),
        *_missing_at_start(deployment),
    )


def check_files(deployment: Deployment) -> None:
    """Raise MisfitError where a file that a deployment names is missing or cannot be used."""
    missing = [
        f"{deployment.path}: members[{i}].options.{key}: {problem}"
        for i, member in enumerate(deployment.members)
        for key, problem in find_missing(member.options, deployment.root)
    ]
    if deployment.retriever is not None:
        absent = deployment.retriever.find_missing(deployment.root)
        missing += [f"{deployment.path}: retriever.{key}: {problem}" for key, problem in absent]
    if missing:
        raise MisfitError("\n".join(missing))
    catalogue = deployment.catalogue()
    for i, member in enumerate(deployment.members):
        where = f"{deployment.path}: members[{i}]"
        try:
            _check_member(deployment, member, catalogue)
        except RuntimeConfigError as error:
            raise MisfitError(f"{where}{_KEYS.get(type(member.options), '')}: {error}") from error


def unpriced_members(deployment: Deployment) -> tuple[str, ...]:
    """Say which members have no price where others have one: answers that they take part in have no cost."""
    without = [name for name, price in deployment.prices.items() if price is None]
    if not without or all(member.price is None for member in deployment.members):
        return ()
    remark = (
        f"no price of {', '.join(without)}, where other members have one: the cost of answers that they are "
        "asked for is not known; write `price: {}` for a member that is free"
    )
    return (remark,)


def uncounted_budgets(deployment: Deployment) -> tuple[str, ...]:
    """Say which members have a budget in money by a price of nothing that their runtime counts."""
    return tuple(
        f"{member.name}: its budget in money limits nothing, as its `price` has no part above 0 that runtime"
        f" {member.runtime} counts; add `per_call`, or limit `calls_per_minute` and `calls_per_day`"
        for member in deployment.members
        if member.budget and member.budget.is_money and not _is_counted(member)
    )


def _is_counted(member: MemberSpec) -> bool:
    price = member.priced or FREE
    of_tokens = (price.per_1k_prompt_tokens, price.per_1k_cached_tokens, price.per_1k_answer_tokens)
    has_tokens = member.runtime not in WITHOUT_LLM
    return bool(price.per_call or price.per_second) or (has_tokens and any(of_tokens))


_KEYS = {
    CatalogueOptions: ".options.products",
    EncoderOptions: ".options.model",
    ReplayOptions: ".options.votes",
}


def damaged_retrievers(deployment: Deployment) -> dict[int, str]:
    """Published versions of the retriever that cannot be served, with the reason; reads all their files."""
    store, found = Store(deployment.repository_path), {}
    state = store.state_if_any()
    for version in state.retriever.versions if state and state.retriever else ():
        try:
            check_retriever(store.path / RETRIEVER / str(version))
        except ManifestError as error:
            found[version] = str(error)
    return found


def _check_member(deployment: Deployment, member: MemberSpec, catalogue: Catalogue) -> None:
    """Raise RuntimeConfigError where what a member was made of does not fit."""
    options, root = member.options, deployment.root
    settings: RuntimeSettings[Any] = RuntimeSettings(
        member.name, root, options, catalogue=catalogue, style=member.prompt
    )
    if isinstance(options, CatalogueOptions):
        path = root / options.products
        filled = {name for product in read_products(path) for name in product.values}
        check_attributes(path, filled, catalogue)
    elif isinstance(options, ReplayOptions):
        check_votes(root / options.votes, options.recorded_as or member.name)
    elif isinstance(options, EncoderOptions):
        open_folder(settings)
    else:
        check_prompts(settings)
        if isinstance(options, TensorRtLlmOptions):
            adapters_of(settings)
        elif isinstance(options, OpenVinoOptions):
            adapter_scale(settings)


def check_machine(deployment: Deployment) -> Preflight:
    """Check that the members can start on this machine; ``problems`` are errors that would stop the start."""
    report = preflight(deployment)
    report.problems += _missing_at_start(deployment)
    if not deployment.repository_path.exists():
        report.problems.append(f"{deployment.repository_path} does not exist; write it with `quorum render`")
    return report


def _missing_at_start(deployment: Deployment) -> list[str]:
    """What the serving machine must have in addition to files, and lacks: keys, programs, packages."""
    keys = [
        f"{deployment.path}: members[{i}].options.{key}: {problem}"
        for i, member in enumerate(deployment.members)
        for key, problem in member.options.missing_at_start(deployment.root)
    ]
    return [*keys, *missing_parts(deployment)]


@dataclass(frozen=True, slots=True)
class RenderReport(Record):
    """A model repository against its deployment.

    Attributes:
        difference: Files that differ, or were written.
        restarted_from: With ``reset_weights``, the new version of equal weights; else None.
        written: Whether the files that differ were written: not where weights do not fit the deployment.
        served: Whether a server runs; it reads the change at its next start.
        remedy: What makes weights fit again; "" where all do.
        unscored: Version that a channel answers with -> members that it weighs by their scores, which the
            deployment does not give.
        catalogue: Such version -> what the deployment's catalogue changed since its weights were learned.
    """

    difference: Difference
    restarted_from: int | None
    written: bool
    served: bool
    remedy: str
    unscored: Mapping[int, list[str]]
    catalogue: Mapping[int, CatalogueChange]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        changes = self.difference
        named = ("remedy", "unscored", "catalogue")
        more = {name: plain(getattr(self, name)) for name in named if getattr(self, name)}
        return {"clean": changes.is_clean, **plain(changes), "write": sorted(changes.write), **more}


def render(deployment: Deployment, *, check: bool = False, reset_weights: bool = False) -> RenderReport:
    """Write the model repository that a deployment describes; versions and pins stay.

    Nothing is written where weights do not fit the deployment.

    Args:
        deployment: The deployment.
        check: Write nothing, only compare.
        reset_weights: Start again from equal weights, as a new version; not with ``check``.

    Raises:
        ServedError: The deployment is being served, and its weights are to be reset.
    """
    served = find_running(deployment) is not None
    reset = reset_weights and not check
    if reset and served:
        raise ServedError("this deployment is being served; stop it before resetting its weights")
    version = start_again(deployment) if reset else None
    changes = difference(deployment) if check else render_repository(deployment)
    misfits = blocking(Store(deployment.repository_path), changes)
    pinned, catalogue = _pinned(deployment), deployment.catalogue()
    unscored = {version: missing_scores(deployment, weights) for version, weights in pinned.items()}
    hashes, kinds = catalogue.hashes, catalogue.answer_kinds()
    changed = {version: weights.catalogue_change(hashes, kinds) for version, weights in pinned.items()}
    return RenderReport(
        changes,
        version,
        not (check or misfits),
        served,
        _remedy(deployment, misfits),
        {version: members for version, members in unscored.items() if members},
        {version: change for version, change in changed.items() if change},
    )


def _remedy(deployment: Deployment, misfits: Mapping[int, str]) -> str:
    """Say how to go on from weights that do not fit; "" if all do."""
    if not misfits:
        return ""
    store = Store(deployment.repository_path)
    learned = store.weights(max(misfits)).members
    wanted = deployment.member_names
    votes = f" ({how_to_fit(learned, wanted)})" if sorted(learned) != sorted(wanted) else ""
    return (
        f"take the change back; or learn again from the votes you have{votes}, start from equal weights "
        "(`quorum render --reset-weights`) and publish what was learned"
    )


def _pinned(deployment: Deployment) -> dict[int, Weights]:
    """Version that a channel answers with -> its weights, where they can be read."""
    store, found = Store(deployment.repository_path), {}
    state = store.state_if_any()
    for version in sorted(set(state.pins.values())) if state else ():
        # Of a version that cannot be read, the difference says so.
        with suppress(WeightsError):
            found[version] = store.weights(version)
    return found

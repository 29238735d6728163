# SPDX-License-Identifier: Apache-2.0
"""Say in words what ``quorum apply`` would change, and how: loaded, replaced next to the old, or unloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quorum.records import Record
from quorum.repository.configs import parse_config, settings_of
from quorum.repository.store import CONFIG_FILE
from quorum.rollout.graph_change import ANSWERING, CATALOGUE_PATH, INNER, Files, GraphChange
from quorum.serving.copies import COPY
from quorum_contract import GATE, VOTE

_LONGEST = 40
_HAVE_LINES = ("members", "prices", "catalogue")
"""Settings of steps whose changes are lines of their own."""
_HOW_COPIED = "loaded next to the running one, then the channels go over"
_HOW_ALONE = "loaded next to the running one, which it replaces"


@dataclass(frozen=True, slots=True)
class PlanLine(Record):
    """One change.

    Attributes:
        what: The thing: ``member alpha``, ``attribute brand``, ``gate.max_in_flight``, ``weights``.
        change: What becomes of it.
    """

    what: str
    change: str


@dataclass(frozen=True, slots=True)
class ApplyPlan(Record):
    """What an apply changes, or has changed.

    Attributes:
        lines: Every change, in words.
        loads: Models that are loaded, in order; copies stand for a while only.
        unloads: Models that are unloaded.
        version: The new version of the weights, which both channels are pinned to; None: as before.
        planned: Whether it was only checked.
        answers: Version and hash of the weights that the stable channel answers with after it.
    """

    lines: tuple[PlanLine, ...]
    loads: tuple[str, ...] = ()
    unloads: tuple[str, ...] = ()
    version: int | None = None
    planned: bool = False
    answers: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.lines or self.loads or self.unloads)

    def __str__(self) -> str:
        """One line for the history."""
        return "; ".join(f"{line.what}: {line.change}" for line in self.lines)


def describe(change: GraphChange) -> ApplyPlan:
    """The plan of a change."""
    copies = [f"{model}{COPY}" for model in change.copied]
    alone = [] if change.copied else list(change.changed_channels)
    early = [m for m in change.added if m not in (*ANSWERING, *change.copied)]
    steps = dict.fromkeys((*change.changed, *change.copied, *change.of_retriever))
    channels = [*change.channels] if change.copied else alone
    return ApplyPlan(
        lines=tuple(_lines(change)),
        loads=(*early, *copies, *steps, *channels),
        unloads=(*change.removed, *copies),
        version=change.version,
    )


def refusals(change: GraphChange) -> Iterator[str]:
    """Why a change cannot be made on a running server; each with what to do."""
    for model in change.changed:
        if model.startswith(INNER):
            yield (
                f"{model} is a network that Triton computes itself, and has one name for old and new: give "
                "the member another name (a new member next to the old), or restart the server"
            )


def _lines(change: GraphChange) -> Iterator[PlanLine]:
    yield from _members(change)
    yield from _attributes(change)
    for model, section in ((GATE, "gate"), (VOTE, "vote")):
        for key, differences in _differences(_settings(change.before, model), _settings(change.after, model)):
            if key not in _HAVE_LINES:
                yield PlanLine(f"{section}.{key}", differences)
    if VOTE in change.changed and _of(change, VOTE, "prices"):
        yield PlanLine("prices", "changed")
    for channel in change.changed_channels:
        if channel in change.added:
            yield PlanLine(f"channel {channel}", "added")
        elif not change.copied:
            yield PlanLine(f"channel {channel}", "asks its members in other rows")
    for channel in ANSWERING:
        if channel in change.removed:
            yield PlanLine(f"channel {channel}", "removed: callers of it are refused")
    if change.of_retriever:
        yield PlanLine("retriever", "settings changed; loaded next to the running one, which it replaces")
    if change.version is not None:
        yield PlanLine("weights", f"version {change.version}, which both channels answer with")


def _of(change: GraphChange, model: str, key: str) -> bool:
    """Whether one of a model's settings differs, apart from the number of members."""
    before, after = (_settings(files, model) for files in (change.before, change.after))
    return before.get("members") == after.get("members") and before.get(key) != after.get(key)


def _members(change: GraphChange) -> Iterator[PlanLine]:
    before, after = _member_settings(change.before), _member_settings(change.after)
    how = _HOW_COPIED if change.copied else _HOW_ALONE
    for name, settings in after.items():
        if name not in before:
            yield PlanLine(f"member {name}", f"added ({settings['runtime']}), loaded next to the others")
        elif differences := "; ".join(f"{key} {text}" for key, text in _differences(before[name], settings)):
            yield PlanLine(f"member {name}", f"{differences}; {how}")
    for name in before:
        if name not in after:
            yield PlanLine(f"member {name}", "removed, and unloaded once no channel asks it")
    grace = {json.dumps(_grace(files)) for files in (change.before, change.after)}
    if len(grace) > 1 and before and after:
        yield PlanLine("vote", "grace, its members, or allow_direct changed")


def _grace(files: Files) -> list[Any]:
    found = [
        {key: value for key, value in settings.items() if key != "members"}
        for model in _models(files)
        if model not in (GATE, VOTE) and "members" in (settings := _settings(files, model))
    ]
    return found[:1]


def _member_settings(files: Files) -> dict[str, dict[str, Any]]:
    members = {}
    for model in _models(files):
        if model not in (GATE, VOTE):
            for member in _settings(files, model).get("members", ()):
                members[member["name"]] = {
                    **member,
                    **{f"options.{k}": v for k, v in member["options"].items()},
                }
                del members[member["name"]]["options"]
    return members


def _attributes(change: GraphChange) -> Iterator[PlanLine]:
    if not change.changes_catalogue:
        return
    before, after = (json.loads(files[CATALOGUE_PATH] or "{}") for files in (change.before, change.after))
    old, new = before.get("attributes", {}), after.get("attributes", {})
    for name in new:
        if name not in old:
            yield PlanLine(f"attribute {name}", "added")
        elif differences := "; ".join(f"{key} {text}" for key, text in _differences(old[name], new[name])):
            yield PlanLine(f"attribute {name}", differences)
    for name in old:
        if name not in new:
            yield PlanLine(f"attribute {name}", "removed")
    for key in ("default", "default_normaliser"):
        if before.get(key) != after.get(key):
            yield PlanLine(key, "changed")


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if old != new:
            texts = json.dumps(old, ensure_ascii=False), json.dumps(new, ensure_ascii=False)
            short = all(len(text) <= _LONGEST for text in texts)
            yield key, f"{texts[0]} -> {texts[1]}" if short else "changed"


def _models(files: Files) -> Iterator[str]:
    for name, text in files.items():
        if text and name.endswith(f"/{CONFIG_FILE}"):
            yield name.removesuffix(f"/{CONFIG_FILE}")


def _settings(files: Files, model: str) -> dict[str, Any]:
    text = files.get(f"{model}/{CONFIG_FILE}")
    settings: dict[str, Any] = json.loads(settings_of(parse_config(text)) or "{}") if text else {}
    return settings

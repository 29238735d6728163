# SPDX-License-Identifier: Apache-2.0
"""Merge adapters of two tasks that answer in different forms, next to single ones and one tuned on both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import yaml

from quorum.deployment import load_deployment
from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.tune.adapter_rules import Method
from quorum.tune.card import read_card
from quorum.tune.data import TrainingRow
from quorum.tune.merge import merge
from quorum.tune.merge_check import MergeOptions, merge_adapters
from quorum_bench.studies.tasks.figures import LABEL_ACCURACY, SPAN_F1, estimate, percent
from quorum_bench.studies.tasks.inputs import Inputs, Row
from quorum_bench.studies.tasks.llms import adapter, answered
from quorum_bench.studies.tasks.size import group_of
from quorum_bench.studies.tasks.sources import CATALOGUE, listings, rows_to_judge, task_of

TASKS = ("queryner", "relevance")
FIGURES = {"queryner": SPAN_F1, "relevance": LABEL_ACCURACY}
ALONE, MIXED = "one task: ", "one adapter on both tasks"
HEAD = (
    f"{'adapter':28}{'task':11}{'free: parsed, %':>16}{'score, %':>20}"
    f"{'guided: parsed, %':>19}{'score, %':>20}{'rows':>6}"
)


def rows(inputs: Inputs) -> Iterator[Row]:
    """Yield a row per adapter and task; then what ``quorum tune merge --check`` says of the first method."""
    if not inputs.effort.adapter:
        raise ValueError("merging is of adapters of the LLM; leave --no-llm out, or this part")
    count = inputs.effort.adapter[0]
    single = {name: adapter(inputs, [name], count).folder for name in TASKS}
    mixed = adapter(inputs, TASKS, count).folder
    adapters = {f"{ALONE}{name}": folder for name, folder in single.items()} | {MIXED: mixed}
    for method in methods(inputs):
        adapters[f"merged, {method}"] = merged(inputs, single, method)
    judged = {name: rows_to_judge(inputs, name, inputs.effort.merge_asked) for name in TASKS}
    for who, folder in adapters.items():
        for name in TASKS:
            yield _row(inputs, who, folder, name, judged[name])
    yield refusal(inputs, single, methods(inputs)[0])


def methods(inputs: Inputs) -> tuple[Method, ...]:
    """Methods of merging that the effort names; raises ValueError for one that is unknown."""
    known = get_args(Method)
    if unknown := [method for method in inputs.effort.merges if method not in known]:
        raise ValueError(f"no merging method {unknown[0]!r}; use {', '.join(known)}")
    return cast("tuple[Method, ...]", inputs.effort.merges)


def merged(inputs: Inputs, single: dict[str, Path], method: Method) -> Path:
    """The adapters of all tasks in equal shares, kept from before if they are there."""
    first, *others = (folder.name for folder in single.values())
    out = (
        inputs.cache.folder
        / f"merged-{method}-{first}-{'-'.join(name.rsplit('-', 1)[-1] for name in others)}"
    )
    if not out.is_dir():
        merge(list(single.values()), inputs.llm, out, method)
    return out


def refusal(inputs: Inputs, single: dict[str, Path], method: Method) -> Row:
    """What the check of a merge finds on rows that no adapter was tuned on."""
    out = inputs.cache.folder / "refused"
    checks = {task_of(name): listings(inputs, name, "test") for name in TASKS}

    def compute() -> Row:
        shutil.rmtree(out, ignore_errors=True)
        options = MergeOptions(method=method, rows=inputs.effort.merge_asked)
        found = merge_adapters(list(single.values()), inputs.llm, out, options, checks, deployment(inputs))
        remarks = [remark.replace(f"{inputs.cache.folder}/", "") for remark in read_card(out).remarks]
        return {"refused": method, "passed": found.passed, "remarks": remarks}

    names = [folder.name for folder in single.values()]
    row: Row = inputs.cache.kept(f"refusal-{method}", [names, method, inputs.effort.merge_asked], compute)
    return row


def deployment(inputs: Inputs) -> Deployment:
    """A deployment of the LLM for the tasks."""
    attributes = {
        attribute.name: {
            "kind": attribute.kind,
            "question": attribute.question,
            "instructions": attribute.instructions,
            "values": list(attribute.values),
            "allow_na": attribute.allow_na,
            "fields": list(attribute.fields),
        }
        for attribute in CATALOGUE.attributes.values()
    }
    member = {"name": "llm", "runtime": "hf", "options": {"model": str(inputs.llm.resolve())}}
    path = inputs.cache.folder / "deploy-llm.yaml"
    write_atomic(path, yaml.safe_dump({"members": [member], "attributes": attributes}, sort_keys=False))
    return load_deployment(path)


def _row(inputs: Inputs, who: str, folder: Path, name: str, judged: list[TrainingRow]) -> Row:
    groups = [group_of(row) for row in judged]
    row: Row = {"who": who, "task": name, "measure": FIGURES[name].name, "asked": len(judged)}
    for way in ("free", "guided"):
        found = answered(inputs, folder.name, folder, judged, guided=way == "guided")
        row[f"{way}_parse_share"] = found.parse_share
        row[f"{way}_score"] = estimate(FIGURES[name], judged, [found.answers], groups=groups)
    return row


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    if "refused" in row:
        verdict = "passed" if row["passed"] else "refused: exit code 1"
        return "\n".join(
            [f"\nquorum tune merge --method {row['refused']} --check: {verdict}", *row["remarks"]]
        )
    figures = "".join(
        f"{100 * row[f'{way}_parse_share']:{width}.1f}{percent(row[f'{way}_score']):>20}"
        for way, width in (("free", 16), ("guided", 19))
    )
    return f"{row['who']:28}{row['task']:11}{figures}{row['asked']:6}"

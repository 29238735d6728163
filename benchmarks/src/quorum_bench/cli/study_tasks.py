# SPDX-License-Identifier: Apache-2.0
"""The study of tasks and of members that are tuned: size of data, merging, votes, large against small."""

from __future__ import annotations

import dataclasses
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from quorum_bench.cli.study_common import PartsFile, begin, err, errors, shown, studies, write_part
from quorum_bench.report.task_curves import size_curve
from quorum_bench.studies.tasks.inputs import LONG, SHORT, Inputs
from quorum_bench.studies.tasks.made import Cache
from quorum_bench.studies.tasks.parts import PARTS


class TasksPart(StrEnum):
    """Parts of the study ``tasks``."""

    zero_shot = "zero-shot"
    members = "members"
    self_teaching = "self-teaching"
    size = "size"
    vote = "vote"
    merge = "merge"


@studies.command("tasks")
def tasks_(
    part: Annotated[
        list[TasksPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with ae-110k and tasks; default: $QUORUM_DATA.")
    ] = None,
    bases: Annotated[
        Path, typer.Option(help="Folder with minilm and smollm2, of `python examples/tasks/bases.py`.")
    ] = Path("bases"),
    cache: Annotated[
        Path, typer.Option(help="Folder of tuned members, which are kept and used again.")
    ] = Path("out/study-tasks"),
    esci: Annotated[
        Path | None, typer.Option(help="Folder with ESCI's official parquet files, for the part size.")
    ] = None,
    long: Annotated[bool, typer.Option("--long", help="All rows, three seeds, six merges: hours.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Of each encoder; 1, with --long 3.")] = None,
    no_llm: Annotated[
        bool, typer.Option("--no-llm", help="Leave out the LLM that is tuned: minutes.")
    ] = False,
    json_file: PartsFile = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for the curves of the part size, SVG.")] = None,
) -> None:
    """Repeat the experiments of "Investigating LLM Applications in E-Commerce" (arXiv 2408.12779), small.

    Parts: `zero-shot` recorded GPT-3.5 and GPT-4 against a tuned encoder, `members` the encoder as their
    sixth member on a real server, and the LLM calls that it saves, `self-teaching` an encoder without gold,
    `size` encoder and LLM by the number of rows, `vote` learned votes on spans, labels and texts, `merge`
    adapters merged. Members are tuned where the cache has none of the same data, base and settings; an
    interrupted study goes on. Needs `make setup-hf` with the extra `tune`. Relevance stands in for ESCI,
    unless --esci names its files.

    Example: `quorum-bench study tasks --part zero-shot --bases bases --json tasks.json`.
    """
    environment = begin()
    with errors():
        effort = LONG if long else SHORT
        effort = dataclasses.replace(effort, seeds=seeds or effort.seeds)
        if no_llm:
            effort = dataclasses.replace(effort, adapter=())
        inputs = Inputs(_data(data), bases, Cache(cache, _notice), effort, esci)
        for name in part or [name for name in TasksPart if not no_llm or name is not TasksPart.merge]:
            chosen = PARTS[name]
            print(f"{chosen.title}\n")
            rows = shown(chosen.head, chosen.rows(inputs), chosen.line)
            print()
            figures = {"machine": environment, "effort": _plain(effort), "rows": list(map(_plain, rows))}
            write_part(json_file, name.value, figures)
            if plots and name is TasksPart.size:
                _draw(plots, rows)


def _data(folder: Path | None) -> Path:
    named = folder or os.environ.get("QUORUM_DATA")
    if not named:
        raise ValueError("name the folder of the public data by --data or QUORUM_DATA")
    return Path(named)


def _notice(text: str) -> None:
    err.print(text, highlight=False, soft_wrap=True)


def _plain(value: Any) -> Any:
    """Plain JSON values; numbers to six places."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    return round(value, 6) if isinstance(value, float) else value


def _draw(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for task in dict.fromkeys(row["task"] for row in rows):
        if svg := size_curve(rows, task):
            (folder / f"tasks-size-{task}.svg").write_text(svg, encoding="utf-8")

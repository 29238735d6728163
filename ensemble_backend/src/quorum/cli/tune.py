# SPDX-License-Identifier: Apache-2.0
"""``quorum tune``: make members from base models and rows of gold, or from the ensemble's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text
from typer.core import TyperGroup

import quorum
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    StepBar,
    new_table,
    note,
    out,
    print_json,
)
from quorum.cli.options import files_by_task, load_if_any, names_in
from quorum.cli.signals import terminated_as_interrupted

if TYPE_CHECKING:
    from quorum import TuneReport

Method = Literal["full", "lora"]


class _TaskFirst(TyperGroup):
    """``quorum tune colour gold.jsonl`` is ``quorum tune train colour gold.jsonl``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the omitted ``train``; help without a command is that of it."""
        if args and args[0] not in self.commands:
            args = ["train", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_TaskFirst,
    no_args_is_help=True,
    help="Tune a member on gold, or on the ensemble's own confident answers: `quorum tune TASK DATA`.",
)


def train(
    task: Annotated[
        str,
        typer.Argument(
            help="Attribute to answer, or several, comma-separated; all: every one that DATA answers."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Gold as CSV or JSONL: a text or the task's fields, and `gold` as {attribute: [answers]}."
        ),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model: an encoder such as BERT, or a causal LLM.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to make.")] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="full: all weights (usual for encoders); lora: an adapter (usual for LLMs)."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Train on this many rows of DATA.")] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            help="One more task for the same member, also TASK=FILE; repeat it. Mixing keeps every format."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws rows, the held-out part, and all else.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the rows.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest of the schedule, above 0.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows per step.")] = None,
    from_votes: Annotated[
        Path | None,
        typer.Option(help="In place of DATA: a votes table, whose confident answers are trained on."),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="With --from-votes: of the answers to train on; default: 0.9."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="With --from-votes: weights that decide; default: learned from the votes."),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            help="LLMs: of the adapter; a multiple of 8 up to 64, as TensorRT-LLM serves; default: 8."
        ),
    ] = None,
    prompt: Annotated[
        Literal["bare", "instruct"] | None,
        typer.Option(
            help="LLMs: style of the prompts, which the member will have in deploy.yaml; default: bare."
        ),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="LLMs: apply the chat template; default: if the base has one."),
    ] = None,
    balance: Annotated[
        bool | None,
        typer.Option(
            "--balance/--no-balance", help="LLMs: draw the labels of a task equally often; default: yes."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="LLMs: rows with more, answer included, are left out (default: 1024); encoders: longer texts"
            " are cut (default: 128).",
        ),
    ] = None,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Encoders of labels: rare labels count as much.")
    ] = False,
    with_category: Annotated[
        bool, typer.Option("--with-category", help="Encoders of values: the question names the category.")
    ] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Encoders: matrix products in int8; faster in ONNX Runtime."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace --out if `quorum tune` wrote it.")] = False,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Tune a base model for a task; `quorum tune merge --help` is about merging adapters.

    An encoder (22 million weights, minutes on a CPU) answers tasks of kind `label`, `spans` and `value`, the
    latter by pointing into the text. A causal LLM answers every kind; it gets a LoRA adapter, or with
    `--method full` new weights, trained on the prompts that serving uses. Options of the one are refused for
    the other.
    Everything is checked before training: rows that cannot be learned are refused with their numbers. A part
    of the rows, without near duplicates of the others, is held out; training ends where it does not gain
    there, and the figures at the end are from it. Interrupted? Run the same command again: it goes on.
    The result is a folder with a card (`card.json`) that says what it was made of.

    Example: `quorum tune relevance gold.jsonl --base models/minilm --out members/relevance`

    Example: `quorum tune all --from-votes votes.jsonl --base models/minilm --out members/values`
    """
    if base is None or target is None:
        raise CommandError("name the folder of the base model by --base, and the folder to make by --out")
    options = quorum.TuneOptions(
        method=method,
        rows=rows,
        mix=files_by_task("--mix", mix or [], data),
        seed=seed,
        epochs=epochs,
        learning_rate=learning_rate,
        batch=batch,
        min_confidence=min_confidence,
        weights=weights,
        rank=rank,
        prompt=prompt,
        chat=chat,
        balance=balance,
        max_tokens=max_tokens,
        class_weights=class_weights,
        with_category=with_category,
        int8=int8,
        force=force,
    )
    tasks = names_in(task)
    if not tasks:
        raise CommandError("name a task: an attribute of deploy.yaml, or all")
    deployment = load_if_any(deploy)
    try:
        with terminated_as_interrupted(), StepBar("tuning") as bar:
            report = quorum.tune_member(
                tasks, data, base, target, options, deployment,
                from_votes=from_votes, progress=bar, note=note,
            )  # fmt: skip
    except KeyboardInterrupt as stopped:
        note(f"{str(stopped) or 'interrupted'}, run the same command again to go on")
        raise typer.Exit(130) from stopped
    if json:
        print_json(report)
        return
    _show(report)


def _show(report: TuneReport) -> None:
    card = report.card
    shown = dict(list(card.scores.items())[:_SHOWN])
    rows = {}
    for task, scores in shown.items():
        # LLMs answer with and without guided decoding.
        guided = {n.removeprefix(_GUIDED): v for n, v in scores.items() if n.startswith(_GUIDED)}
        rows[task] = {n: v for n, v in scores.items() if not n.startswith(_GUIDED)}
        rows[f"{task}, guided"] = guided
    names = list(dict.fromkeys(name for scores in rows.values() for name in scores))
    table = new_table("held out, %", *names)
    for title, scores in sorted((title, scores) for title, scores in rows.items() if scores):
        table.add_row(Text(title), *(f"{scores[name]:.1%}" if name in scores else "-" for name in names))
    out.print(table)
    if len(card.scores) > _SHOWN:
        note(f"and {len(card.scores) - _SHOWN} more attributes: see card.json")
    overall = card.settings.get("overall")
    if overall and len(card.scores) > 1:
        note("over all: " + ", ".join(f"{name} {value:.1%}" for name, value in overall.items()))
    for remark in card.remarks:
        note(remark)
    note(
        f"{card.rows} rows trained on, {card.held_out_rows} held out, {card.left_out} left out; "
        f"{card.steps} steps in {card.seconds:.0f} s, the weights of step {card.best_step}"
    )
    note(f"wrote {report.out}; add to `members` in deploy.yaml:\n{report.member}")
    note("then `quorum validate`, `quorum render` and `quorum up`")


_SHOWN = 20
_GUIDED = "guided_"

# SPDX-License-Identifier: Apache-2.0
"""Ask a tuned encoder first, and LLMs only what it leaves open: calls saved, and values that change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.bulk.listings import Listing, gold_of, read_listings
from quorum.decision.stopping import recorded_stopping
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.deployment.lazy import LazySpec
from quorum.deployment.schema import MemberSpec
from quorum.learning.stopping import ERROR, chance_of_at_most
from quorum.repository.lazy_rows import ranked_models
from quorum.runtimes.options import read_options
from quorum.tasks.catalogue import Catalogue
from quorum_bench.targets.lazy import answered, changed, learned
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Product, Workload
from quorum_client import Answer, Extraction
from quorum_contract import LAZY, STABLE

Row = dict[str, Any]
ENCODER = "encoder"
"""Name of the member that is added."""
RISKS = (0.0, 0.01, 0.05)


@dataclass(frozen=True)
class Inputs:
    """What is compared.

    Attributes:
        deploy: A deployment of LLMs.
        encoder: Folder that ``quorum tune`` made, for the same attributes.
        taught: Listings with gold that weights, and when to stop, are learned from.
        judged: Listings with gold that both channels are asked about; the encoder was tuned on neither.
    """

    deploy: Path
    encoder: Path
    taught: Path
    judged: Path


def compare(inputs: Inputs) -> Iterator[Row]:
    """Per flip risk, for one attribute a request and for all: calls of LLMs, other values, and right ones."""
    spec, listings = load_deployment(inputs.deploy), read_listings(inputs.judged)
    names, catalogue = list(spec.attributes), spec.catalogue()
    options = read_options("encoder", {"model": str(inputs.encoder.resolve())})
    more = [MemberSpec(name=ENCODER, runtime="encoder", options=options)]
    workloads = [
        _workload(listings, [[names[at % len(names)]] for at in range(len(listings))]),
        _workload(listings, [names] * len(listings)),
    ]
    with QuorumTarget(workloads[1], deploy=inputs.deploy, lazy=LazySpec(), more=more) as target:
        weights = learned(target, read_listings(inputs.taught))
        target.promote(weights)
        full = [answered(target.url, STABLE, workload) for workload in workloads]
        llms = [name for name in ranked_models(target.deployment, weights) if name != ENCODER]
    rows = [[ENCODER], *([name] for name in llms)]
    gold = [_gold(listings, workload, catalogue) for workload in workloads]
    for risk in RISKS:
        lazy = LazySpec(rows=rows, flip_risk=risk)
        with QuorumTarget(workloads[1], deploy=inputs.deploy, lazy=lazy, more=more) as target:
            target.promote(weights)
            for whole, right, workload in zip(full, gold, workloads, strict=True):
                part = answered(target.url, LAZY, workload)
                found = {"risk": risk, "is_supported": _is_supported(weights, risk), "rows": rows}
                yield found | counted(whole, part, right, llms)


def _workload(listings: Sequence[Listing], attributes: Sequence[Sequence[str]]) -> Workload:
    rows = zip(listings, attributes, strict=True)
    return Workload(tuple(Product(row.text, row.category, tuple(names)) for row, names in rows))


def _gold(listings: Sequence[Listing], workload: Workload, catalogue: Catalogue) -> list[list[str]]:
    """The acceptable answers of each cell."""
    pairs = zip(listings, workload.products, strict=True)
    return [gold_of(row, name, catalogue) for row, product in pairs for name in product.attributes]


def _is_supported(weights: Weights, risk: float) -> bool:
    stopping = recorded_stopping(weights.settings)
    return not risk or (stopping is not None and stopping.limit(risk) > 0.0)


def counted(
    full: Sequence[Extraction], lazy: Sequence[Extraction], gold: Sequence[Sequence[str]], llms: Sequence[str]
) -> Row:
    """Compare the answers of the two channels about the same requests.

    Args:
        full: Of all members.
        lazy: Of those that were asked.
        gold: Acceptable answers of each cell.
        llms: Names of the LLMs.

    Returns:
        As :func:`quorum_bench.targets.lazy.changed`, and calls of LLMs per request, requests without any, and
        cells that are right, of both channels and of the encoder alone.
    """
    cells = {
        "full": [answer.value or "" for answer in _answers(full)],
        "lazy": [answer.value or "" for answer in _answers(lazy)],
        "encoder": [_vote(answer) for answer in _answers(full)],
    }
    return {
        "attributes": len(full[0].answers),
        "requests": len(full),
        **changed(full, lazy),
        "llm_calls": {"full": _calls(full, llms) / len(full), "lazy": _calls(lazy, llms) / len(lazy)},
        "without_llm": sum(not _calls([result], llms) for result in lazy),
        "right": {
            name: sum(value in own for value, own in zip(values, gold, strict=True)) / len(gold)
            for name, values in cells.items()
        },
    }


def _answers(results: Sequence[Extraction]) -> list[Answer]:
    return [answer for result in results for answer in result.answers]


def _vote(answer: Answer) -> str:
    return next((vote.value or "" for vote in answer.votes if vote.member == ENCODER), "")


def _calls(results: Sequence[Extraction], llms: Sequence[str]) -> float:
    return sum(result.usage[name].calls for result in results for name in llms)


HEAD = (
    "The encoder alone in the first row, then one LLM a row. differ: values that are not those of all\n"
    "members; LLM calls: full and lazy, a request; no LLM: requests that the encoder answers alone; right:\n"
    "in %, of all members, lazily, and of the encoder alone\n"
    f"{'flip risk':>9}{'attr.':>7}{'differ':>14}{'LLM calls':>12}{'saved':>8}{'no LLM':>13}{'right':>18}"
)


def line(row: Row) -> str:
    """Return a row as a line."""
    differ = f"{row['cells'] - row['equal']} of {row['cells']}"
    calls = f"{row['llm_calls']['full']:.2f} {row['llm_calls']['lazy']:.2f}"
    alone = f"{row['without_llm']} of {row['requests']}"
    right = " ".join(f"{100 * row['right'][name]:.1f}" for name in ("full", "lazy", "encoder"))
    return (
        f"{100 * row['risk']:8.1f}%{row['attributes']:7}{differ:>14}{calls:>12}{100 * saved(row):7.1f}%"
        f"{alone:>13}{right:>18}"
    )


def saved(row: Row) -> float:
    """Share of the LLMs' calls that are spared."""
    calls: Mapping[str, float] = row["llm_calls"]
    return 1.0 - calls["lazy"] / calls["full"]


def summary(rows: Sequence[Row]) -> str:
    """Return whether each flip risk is kept, and what it saves."""
    lines = []
    for row in rows:
        differ, cells, risk = row["cells"] - row["equal"], row["cells"], row["risk"]
        if not risk:
            verdict = "met" if not differ else "MISSED"
            what = f"equal answers: {differ} of {cells} values differ: {verdict}"
        else:
            verdict = "kept" if differ <= risk * cells else "MISSED"
            # As improbable as this many or fewer would be, if the risk were just not kept.
            sure = chance_of_at_most(differ, cells, risk)
            what = (
                f"flip risk {100 * risk:g} %: {100 * differ / cells:.2f} % of {cells} values differ: "
                f"{verdict} (so few by chance at that risk: {sure:.2g}; limits are learned at {ERROR:g})"
            )
            if not row["is_supported"]:
                what += "; the votes do not support this risk"
        lines.append(
            f"{row['attributes']} attributes, {what}; {100 * saved(row):.1f} % of the LLM calls saved"
        )
    return "\n".join(lines)

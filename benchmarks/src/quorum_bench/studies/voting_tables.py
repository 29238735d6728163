# SPDX-License-Identifier: Apache-2.0
"""Lay out the figures of voting speed and voting accuracy as text."""

from __future__ import annotations

from quorum_bench.studies.voting_speed import MISSING, READS, VALUES, Row


def speed_table(cells: int, rows: list[Row]) -> str:
    """Return the table of :func:`quorum_bench.studies.voting_speed.speed`."""
    heads = f"{'ms':>8} {'(least - most)':>19} {'reads':>7} {'strict':>7} {'accuracy':>9}"
    lines = [
        f"Speed, one process, {cells:,} cells, K = {VALUES}, {MISSING:.0%} missing, int32",
        (
            "median (least - most); `reads`: of numpy.sum of the array; "
            "`strict`: of the sum of the same bytes as int64"
        ),
        "",
        f"{'M':>2} {'':14} {heads}",
    ]
    for row in rows:
        spread = f"({1e3 * row['least']:.2f} - {1e3 * row['most']:.2f})"
        line = f"{row['members']:2} {row['name']:14} {1e3 * row['seconds']:8.2f} {spread:>19}"
        if "reads" in row:
            line += f" {row['reads']:7.1f} {row['strict_reads']:7.1f} {row['accuracy']:9.2f}"
            if row["name"] != "dawid_skene":
                line += f"   target <= {READS:.0f}: {_mark(row['reads'] <= READS)}"
                line += f", strict: {_mark(row['strict_reads'] <= READS)}"
        lines.append(line)
    return "\n".join(lines)


def kit_table(result: Row) -> str:
    """Return the table of :func:`quorum_bench.studies.voting_speed.kit`."""
    if not result["rows"]:
        return str(result["note"])
    lines = [
        (
            f"Next to crowd-kit {result['crowd_kit']} (pandas {result['pandas']}), {result['cells']:,} cells "
            f"x 5 members, in turn, {result['repeats']} times; medians, least - most"
        ),
        "",
    ]
    for row in result["rows"]:
        if "error" in row:
            lines.append(f"{row['name']:18} {row['error']}")
            continue
        theirs, ours, ratios = row["theirs"], row["ours"], row["ratios"]
        target = row["target"]
        verdict = f"   target >= {target:.0f}: {_mark(row['ratio'] >= target)}" if target else ""
        lines.append(
            f"{row['name']:18} {theirs['seconds']:7.2f} s, {row['accuracy']:.2f} %; {row['against']:11} "
            f"{1e3 * ours['seconds']:6.1f} ms, {row['accuracy_ours']:.2f} %: {row['ratio']:.0f} x "
            f"({ratios[0]:.0f} - {ratios[-1]:.0f}){verdict}"
        )
    return "\n".join(lines)


def scale_table(rows: list[Row]) -> str:
    """Return the table of :func:`quorum_bench.studies.voting_speed.scale`."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    lines = [
        "By scale, five members: median ms (ns per cell)",
        "",
        f"{'cells':>10} " + " ".join(f"{name:>18}" for name in names),
    ]
    for cells in dict.fromkeys(row["cells"] for row in rows):
        seconds = [row["seconds"] for row in rows if row["cells"] == cells]
        lines.append(f"{cells:10} " + " ".join(f"{1e3 * s:9.2f} ({1e9 * s / cells:6.1f})" for s in seconds))
    return "\n".join(lines)


def parquet_table(rows: list[Row]) -> str:
    """Return the table of :func:`quorum_bench.studies.voting_speed.parquet`."""
    heads = ("file MB", "batch", "read s", "learn s", "peak MB", "imports")
    lines = [
        "From Parquet, five members' texts, histogram, check for duplicate cells, em; one process each",
        "",
        f"{'cells':>10} " + " ".join(f"{head:>8}" for head in heads),
    ]
    lines += [
        f"{row['cells']:10.0f} {row['file_mb']:8} {row['batch_rows']:8} {row['read']:8.1f} "
        f"{row['learn']:8.2f} {row['peak_mb']:8} {row['imports_mb']:8}"
        for row in rows
    ]
    return "\n".join(lines)


def independent_table(rows: list[Row]) -> str:
    """Return the table of :func:`quorum_bench.studies.voting_accuracy.gaps_of_independent`."""
    lines = [
        "Accuracy of independent members (.55-.95), points below MAP with the true accuracies",
        "",
        f"{'cells':>7} {'M':>3} {'K':>3} {'oracle':>7} {'majority':>14} {'iwmv':>14} {'em':>14}",
    ]
    lines += [
        f"{row['cells']:7} {row['members']:3} {row['values']:3} {row['oracle']:7.2f} {_gaps(row)}"
        for row in rows
    ]
    return "\n".join(lines)


def bloc_table(rows: list[Row]) -> str:
    """Return the table of :func:`quorum_bench.studies.voting_accuracy.gaps_with_bloc`."""
    names = f"{'majority':>14} {'iwmv':>14} {'em':>14} {'loglinear 200':>14} {'loglinear 1000':>14}"
    lines = [
        "The same with a bloc that repeats itself, 10,000 cells, points below the exact Bayes decision",
        "",
        f"{'phi':>5} {'M':>3} {'bloc':>4} {'K':>3} {'oracle':>7} {names}",
    ]
    lines += [
        f"{row['phi']:5.2f} {row['members']:3} {row['bloc']:4} {row['values']:3} {row['oracle']:7.2f} "
        f"{_gaps(row)}"
        for row in rows
    ]
    return "\n".join(lines)


def _gaps(row: Row) -> str:
    gaps = [value for value in row.values() if isinstance(value, dict)]
    return " ".join(f"{gap['gap']:+7.2f} +-{gap['half']:4.2f}" for gap in gaps)


def _mark(met: bool) -> str:
    return "met" if met else "MISSED"

# SPDX-License-Identifier: Apache-2.0
"""Tables of what :mod:`quorum_bench.aggregation` measured."""
# ruff: noqa: INP001, T201

from __future__ import annotations

from quorum_bench.aggregation import MISSING, READS, VALUES, Row


def print_speed(cells: int, rows: list[Row]) -> None:
    """Table of :func:`speed`."""
    print(
        f"\nSpeed, one process, {cells:,} cells, K = {VALUES}, {MISSING:.0%} missing, int32"
        "\nmedian (least - most); `reads`: of numpy.sum of the array; "
        "`strict`: of the sum of the same bytes as int64\n"
    )
    heads = f"{'ms':>8} {'(least - most)':>19} {'reads':>7} {'strict':>7} {'accuracy':>9}"
    print(f"{'M':>2} {'':14} {heads}")
    for row in rows:
        spread = f"({1e3 * row['least']:.2f} - {1e3 * row['most']:.2f})"
        line = f"{row['members']:2} {row['name']:14} {1e3 * row['seconds']:8.2f} {spread:>19}"
        if "reads" in row:
            line += f" {row['reads']:7.1f} {row['strict_reads']:7.1f} {row['accuracy']:9.2f}"
            if row["name"] != "dawid_skene":
                line += f"   target <= {READS:.0f}: {mark(row['reads'] <= READS)}"
                line += f", strict: {mark(row['strict_reads'] <= READS)}"
        print(line)


def print_kit(result: Row) -> None:
    """Table of :func:`kit`."""
    if not result["rows"]:
        print("\n" + result["note"])
        return
    print(
        f"\nBeside crowd-kit {result['crowd_kit']} (pandas {result['pandas']}), {result['cells']:,} cells "
        f"x 5 members, in turn, {result['repeats']} times; medians, least - most\n"
    )
    for row in result["rows"]:
        if "error" in row:
            print(f"{row['name']:18} {row['error']}")
            continue
        theirs, ours, ratios = row["theirs"], row["ours"], row["ratios"]
        wanted = row["target"]
        target = f"   target >= {wanted:.0f}: {mark(row['ratio'] >= wanted)}" if wanted else ""
        print(
            f"{row['name']:18} {theirs['seconds']:7.2f} s, {row['accuracy']:.2f} %; {row['against']:11} "
            f"{1e3 * ours['seconds']:6.1f} ms, {row['accuracy_ours']:.2f} %: {row['ratio']:.0f} x "
            f"({ratios[0]:.0f} - {ratios[-1]:.0f}){target}"
        )


def print_scale(rows: list[Row]) -> None:
    """Table of :func:`scale`."""
    print("\nBy scale, five members: median ms (ns per cell)\n")
    names = list(dict.fromkeys(row["name"] for row in rows))
    print(f"{'cells':>10} " + " ".join(f"{name:>18}" for name in names))
    for cells in dict.fromkeys(row["cells"] for row in rows):
        seconds = [row["seconds"] for row in rows if row["cells"] == cells]
        print(f"{cells:10} " + " ".join(f"{1e3 * s:9.2f} ({1e9 * s / cells:6.1f})" for s in seconds))


def print_parquet(rows: list[Row]) -> None:
    """Table of :func:`parquet`."""
    print("\nFrom Parquet, five members' texts, histogram, check for duplicate cells, em; one process each\n")
    heads = ("file MB", "batch", "read s", "learn s", "peak MB", "imports")
    print(f"{'cells':>10} " + " ".join(f"{head:>8}" for head in heads))
    for row in rows:
        print(
            f"{row['cells']:10.0f} {row['file_mb']:8} {row['batch_rows']:8} {row['read']:8.1f} "
            f"{row['learn']:8.2f} {row['peak_mb']:8} {row['imports_mb']:8}"
        )


def mark(met: bool) -> str:
    """In words."""
    return "met" if met else "MISSED"

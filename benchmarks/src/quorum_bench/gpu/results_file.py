# SPDX-License-Identifier: Apache-2.0
"""Keep the figures of a GPU check in a file, part by part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quorum_contract.errors import QuorumError

SCHEMA = 1
Row = dict[str, Any]


class CheckError(QuorumError, ValueError):
    """The check cannot be made as asked; the message says why."""

    code = "GPU_CHECK_REFUSED"


def read_results(path: Path) -> Row:
    """Read what was measured so far, nothing where there is no file; CheckError for one of another form."""
    if not path.is_file():
        return {"schema_version": SCHEMA, "parts": {}}
    results: Row = json.loads(path.read_text("utf-8"))
    if results.get("schema_version") != SCHEMA:
        raise CheckError(
            f"{path}: schema_version {results.get('schema_version')}, expected {SCHEMA}; name another"
        )
    return results


def write_results(path: Path, results: Row) -> None:
    """Write the results without parts that failed or were skipped: the next run tries them again."""
    parts = results["parts"].items()
    kept = {key: part for key, part in parts if not {"error", "skipped"} & part.keys()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results | {"parts": kept}, indent=1) + "\n", encoding="utf-8")

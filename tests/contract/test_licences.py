# SPDX-License-Identifier: Apache-2.0
"""Every package that ``quorum[cpu]`` brings, directly or not, has a licence that the guide names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "install.md").read_text("utf-8")
OWN = {"quorum": "ensemble_backend", "quorum-client": "client", "quorum-demo": "examples/demo"}
# What packages write, and the SPDX name.
NAMES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "osi approved": "",
    "python software foundation license": "PSF-2.0",
}


def needs_of(name: str, extras: frozenset[str]) -> list[str]:
    if name in OWN:
        project = tomllib.loads((ROOT / OWN[name] / "pyproject.toml").read_text("utf-8"))["project"]
        optional = project.get("optional-dependencies", {})
        return [*project.get("dependencies", []), *(need for extra in extras for need in optional[extra])]
    return metadata.requires(name) or []


def closure(name: str, extras: frozenset[str]) -> Iterator[str]:
    """Each package that an installation brings here, once."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, extras)]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        for need in map(Requirement, needs_of(*one)):
            environments = [{"extra": extra} for extra in (*one[1], "")]
            if need.marker is None or any(need.marker.evaluate(where) for where in environments):
                waiting.append((re.sub(r"[-_.]+", "-", need.name).lower(), frozenset(need.extras)))
    yield from sorted({name for name, _ in found})


def licences_of(name: str) -> set[str]:
    said = metadata.metadata(name)
    if expression := said["License-Expression"]:
        return parts_of(expression)
    classifiers = [
        c.rpartition(" :: ")[2] for c in said.get_all("Classifier", []) if c.startswith("License ")
    ]
    named = {NAMES.get(text.lower(), text) for text in classifiers} - {""}
    text = (said["License"] or "").strip()
    return named or parts_of(NAMES.get(text.lower(), text))


def parts_of(expression: str) -> set[str]:
    return {*re.split(r" (?:AND|OR|WITH) ", expression)}


@pytest.mark.parametrize("name", [*closure("quorum", frozenset({"cpu"}))])
def test_the_licence_is_one_that_the_guide_names(name: str) -> None:
    table = GUIDE[GUIDE.index("## Licences") :]
    if name in OWN:
        project = tomllib.loads((ROOT / OWN[name] / "pyproject.toml").read_text("utf-8"))["project"]
        assert project["license"] == "Apache-2.0"
        return
    for licence in licences_of(name):
        assert f"| {licence} |" in table, f"{name}: {licence}"


def test_the_packages_that_are_not_permissive_are_named() -> None:
    found = {name for name in closure("quorum", frozenset({"cpu"})) if name not in OWN}
    weak = {name for name in found if "MPL-2.0" in licences_of(name)}
    (row,) = re.findall(r"^\| MPL-2\.0 \| (.*?) \|", GUIDE, re.MULTILINE)
    assert weak <= {*re.findall(r"`([a-z0-9-]+)`", row)}

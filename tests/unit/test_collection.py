# SPDX-License-Identifier: Apache-2.0
"""Collecting the tests, which every test process does, is quick."""

from __future__ import annotations


def test_no_file_imports_pytorch_or_transformers(imported_early: list[str]) -> None:
    assert imported_early == [], "import them in a fixture or a test: it takes seconds in every process"

# SPDX-License-Identifier: Apache-2.0
"""Find the demo: in the distribution ``quorum-demo``, or in the checkout that this code runs from."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from quorum.extras import CHECKOUT

MODELS = ("demo-llama", "demo-qwen2", "demo-qwen3")
_IN_CHECKOUT = Path("examples/demo")


def demo_folder() -> Path | None:
    """The folder with ``models/``, ``attributes.json``, ``listings.jsonl`` and ``demo_run.py``, if any."""
    if (CHECKOUT / _IN_CHECKOUT / "attributes.json").is_file():
        return CHECKOUT / _IN_CHECKOUT
    spec = find_spec("quorum_demo")
    return Path(spec.origin).parent if spec is not None and spec.origin else None

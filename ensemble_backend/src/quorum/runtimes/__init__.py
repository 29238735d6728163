# SPDX-License-Identifier: Apache-2.0
"""Ways to turn prompts into text: one file per runtime, all behind :class:`quorum.runtimes.base.Runtime`."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module

from quorum.runtimes.base import Runtime, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.options import OptionError, complete

# Imported on demand: each runtime has heavy dependencies of its own.
RUNTIMES = {
    "hf": "quorum.runtimes.hf:HfRuntime",
    "openvino": "quorum.runtimes.openvino:OpenVinoRuntime",
    "tensorrt_llm": "quorum.runtimes.tensorrt_llm:TensorRtLlmRuntime",
    "engine": "quorum.runtimes.engine:EngineRuntime",
    "replay": "quorum.runtimes.replay:ReplayRuntime",
}

_INSTALL = {"hf": "run `make setup-hf`"}


def create(name: str, settings: RuntimeSettings) -> Runtime:
    """Start the runtime of that name.

    Raises:
        RuntimeConfigError: Unknown name, settings it cannot start with, or a package it needs is missing.
    """
    if name not in RUNTIMES:
        known = ", ".join(sorted(RUNTIMES))
        raise RuntimeConfigError(f"member {settings.member!r}: unknown runtime {name!r}; use one of {known}")
    try:
        options = complete(name, settings.options)
    except OptionError as error:
        raise RuntimeConfigError(f"member {settings.member!r}: {error}") from error
    module, cls = RUNTIMES[name].split(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        mend = _INSTALL.get(name, "install it")
        raise RuntimeConfigError(
            f"member {settings.member!r}: runtime {name!r} needs the package {error.name!r}, which"
            f" {sys.executable} does not have; {mend}"
        ) from error
    runtime: Runtime = getattr(found, cls)(replace(settings, options=options))
    return runtime

# SPDX-License-Identifier: Apache-2.0
"""Turn questions into text or votes, each runtime behind :class:`quorum.runtimes.base.Runtime`."""

from __future__ import annotations

import sys
from importlib import import_module

from quorum.runtimes.base import Runtime, RuntimeSettings
from quorum.runtimes.option_base import Options
from quorum.runtimes.tuned_prompt import check_prompts


def create(settings: RuntimeSettings[Options]) -> Runtime:
    """Start the runtime of these options.

    Raises RuntimeConfigError: it cannot start, lacks a package, or was tuned on other prompts than it gets.
    """
    options = settings.options
    check_prompts(settings)
    module, runtime_class = options.served_by.split(":")
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        raise settings.error(
            f"runtime {options.runtime!r} needs the package {error.name!r}, which {sys.executable} does not"
            f" have; {options.install}"
        ) from error
    runtime: Runtime = getattr(imported, runtime_class)(settings)
    return runtime

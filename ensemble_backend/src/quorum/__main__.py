# SPDX-License-Identifier: Apache-2.0
"""The program ``quorum``: the command line, or what it lacks."""

from __future__ import annotations

import sys

from quorum.extras import how_to_install


def main() -> None:
    """Run the command line; ends with one line where a package that it needs is not installed."""
    try:
        from quorum.cli import main as run
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in ("quorum", "quorum_client", "quorum_contract"):
            raise
        sys.exit(
            f"error: the command line needs the package {error.name!r}, which {sys.executable} does not have;"
            f" run {how_to_install('deploy')}"
        )
    run()


if __name__ == "__main__":
    main()

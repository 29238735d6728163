# SPDX-License-Identifier: Apache-2.0
"""The command ``quorum-bench``; the only layer that prints."""


def main() -> None:
    """Run the command line; the entry point of the console script."""
    # Not imported above: a machine without Triton's client can then still run `quorum_bench.cli.gpu_check`.
    from quorum_bench.cli.app import app

    app()

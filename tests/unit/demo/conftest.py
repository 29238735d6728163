# SPDX-License-Identifier: Apache-2.0
"""The scripts of the examples are no packages; their folders go on the path, as when they are run."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
sys.path[:0] = [str(EXAMPLES / "demo"), str(EXAMPLES / "tasks")]

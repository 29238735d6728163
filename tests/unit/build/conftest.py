# SPDX-License-Identifier: Apache-2.0
"""Puts the helpers of these tests, and those of the capacity tests, on the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "capacity")]

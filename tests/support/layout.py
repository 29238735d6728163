# SPDX-License-Identifier: Apache-2.0
"""What this machine lets a process decide about where its code lies."""

from __future__ import annotations

import shutil
import subprocess


def may_do_without_aslr() -> bool:
    """Whether a process may have the same addresses as others; a seccomp profile can refuse it."""
    if shutil.which("setarch") is None:
        return False
    return subprocess.run(["setarch", "-R", "true"], capture_output=True, check=False).returncode == 0

# SPDX-License-Identifier: Apache-2.0
"""The benchmark of quorum: load on one side, metrics on the other, one report that says both."""

__version__ = "0.1.0"

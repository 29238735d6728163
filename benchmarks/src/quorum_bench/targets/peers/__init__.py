# SPDX-License-Identifier: Apache-2.0
"""Serve the same ensemble on other servers: scripts for ``.venv-peers``, configured by a JSON file."""

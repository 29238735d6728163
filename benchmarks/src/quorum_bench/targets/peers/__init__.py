# SPDX-License-Identifier: Apache-2.0
"""The same ensemble on other servers: scripts that run in ``.venv-peers``, told what to do by a JSON file."""

# SPDX-License-Identifier: Apache-2.0
"""Run what can block, crash or eat memory in a worker process, so that it cannot take the server down."""

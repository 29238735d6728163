# SPDX-License-Identifier: Apache-2.0
"""Operate a deployment, one function per task: each returns a record and prints nothing.

``quorum`` exports these functions; the command line calls them.
"""

# SPDX-License-Identifier: Apache-2.0
"""New weights go live as a version of ``quorum_vote``: publish, canary, promote, roll back."""

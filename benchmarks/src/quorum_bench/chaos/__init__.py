# SPDX-License-Identifier: Apache-2.0
"""Break a served deployment on purpose, under load, and count what callers notice."""

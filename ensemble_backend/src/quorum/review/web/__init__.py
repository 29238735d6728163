# SPDX-License-Identifier: Apache-2.0
"""The review page over HTTP: a thin layer over :mod:`quorum.review.page`; Starlette loads when it is used."""

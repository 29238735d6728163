# SPDX-License-Identifier: Apache-2.0
"""Judge pairs of item and keyphrase by a running deployment: pairs in, soft labels out."""

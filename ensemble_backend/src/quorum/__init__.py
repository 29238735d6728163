# SPDX-License-Identifier: Apache-2.0
"""quorum: several LLMs in one Triton server answer a product question as one, by learned weights."""

__version__ = "0.1.0"

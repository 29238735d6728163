# SPDX-License-Identifier: Apache-2.0
"""Make members: fine-tune LLM adapters and encoders, and merge adapters."""

# SPDX-License-Identifier: Apache-2.0
"""Ask LLMs that other servers serve: limits, retries, breaker, wire format, for the runtime ``openai``."""

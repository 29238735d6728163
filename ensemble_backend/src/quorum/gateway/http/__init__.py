# SPDX-License-Identifier: Apache-2.0
"""The HTTP half: product questions as JSON, KServe v2 over REST, and OpenAI's chat completions."""

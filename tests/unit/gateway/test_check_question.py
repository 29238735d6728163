# SPDX-License-Identifier: Apache-2.0
"""What of a question goes to which step."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.questions import check_question
from quorum_client import InvalidRequest


@pytest.mark.parametrize("channel", ["quorum_recommend", "quorum_recommend_canary"])
def test_the_retriever_is_sent_no_cancellation(channel: str) -> None:
    """It would answer one as a question, which no quota counts."""
    request = pb.ModelInferRequest(model_name="quorum")
    request.parameters["quorum_cancel"].string_param = "an-id"
    check_question(request)
    request.model_name = channel
    with pytest.raises(InvalidRequest, match="quorum_cancel"):
        check_question(request)

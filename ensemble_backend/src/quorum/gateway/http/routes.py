# SPDX-License-Identifier: Apache-2.0
"""The paths, once: what answers each, who may ask, in which form errors come, and what the document says."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from quorum.gateway.http.asking import ProductAsking
from quorum.gateway.http.chat import Chat
from quorum.gateway.http.chat_types import ChatCompletion, ChatRequest, Model, ModelList
from quorum.gateway.http.endpoint import Handler
from quorum.gateway.http.kserve import Kserve, ModelMetadata, ServerMetadata
from quorum.gateway.http.kserve_tensors import InferAnswer, InferRequest
from quorum.gateway.http.problems import (
    Form,
    OpenAiProblem,
    Problem,
    kserve_problem,
    openai_problem,
    problem_json,
)
from quorum.gateway.http.products import (
    ExtractAnswer,
    ExtractRequest,
    ExtractResults,
    Products,
    RecommendAnswer,
    RecommendRequest,
)
from quorum.gateway.keys import Role
from quorum.gateway.parts import Gateway


class Path(NamedTuple):
    """One path and method.

    Attributes:
        method: Of HTTP.
        path: With ``{channel}`` where one is named.
        handler: Answers it.
        role: What its callers may do; None: everyone may, without a key.
        form: Of its errors.
        summary: One line.
        takes: Type of the body; None: it has none.
        gives: Types of the answer.
        media_types: Of the answer.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    role: Role | None
    form: Form
    summary: str
    takes: Any = None
    gives: tuple[Any, ...] = ()
    media_types: tuple[str, ...] = ("application/json",)


def form_of(path: str) -> Form:
    """The form of errors of a path, also of one that does not exist."""
    if path.startswith(("/v1/chat", "/v1/models")):
        return openai_problem
    return kserve_problem if path == "/v2" or path.startswith("/v2/") else problem_json


def error_type(form: Form) -> tuple[Any, str]:
    """Type and media type of a form."""
    return (
        (OpenAiProblem, "application/json")
        if form is openai_problem
        else (Problem, "application/problem+json")
    )


def paths_of(gateway: Gateway) -> list[Path]:
    """All paths of a gateway but that of the document."""
    asking = ProductAsking(gateway)
    products, chat, kserve = (
        Products(gateway, asking),
        Chat(gateway, asking),
        Kserve(gateway, asking),
    )
    return [
        Path("POST", "/v1/extract", products.extract, "extract", problem_json,
             "Attributes of one product, or of several", ExtractRequest, (ExtractAnswer, ExtractResults)),
        Path("POST", "/v1/recommend", products.recommend, "recommend", problem_json,
             "Keyphrases for an item", RecommendRequest, (RecommendAnswer,)),
        Path("POST", "/v1/chat/completions", chat.completions, "extract", openai_problem,
             "Attributes of a product, in the form of OpenAI's API", ChatRequest, (ChatCompletion,),
             ("application/json", "text/event-stream")),
        Path("GET", "/v1/models", chat.models, "read", openai_problem,
             "The channels that can answer, as models", None, (ModelList,)),
        Path("GET", "/v1/models/{channel}", chat.model, "read", openai_problem,
             "One channel, as a model", None, (Model,)),
        Path("GET", "/v2", kserve.server, "read", kserve_problem,
             "What serves here", None, (ServerMetadata,)),
        Path("GET", "/v2/health/live", kserve.live, None, kserve_problem, "Whether the gateway serves"),
        Path("GET", "/v2/health/ready", kserve.ready, None, kserve_problem,
             "Whether the stable channel can answer"),
        Path("GET", "/v2/models/{channel}", kserve.model, "read", kserve_problem,
             "What a channel takes and gives", None, (ModelMetadata,)),
        Path("GET", "/v2/models/{channel}/ready", kserve.model_ready, None, kserve_problem,
             "Whether a channel can answer"),
        Path("POST", "/v2/models/{channel}/infer", kserve.infer, "read", kserve_problem,
             "A question to a channel, in tensors", InferRequest, (InferAnswer,)),
    ]  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Serve the ensemble with Ray Serve: a deployment per member, composed by handles.

Annotations are no strings here: FastAPI must find their types after Ray has pickled the class. Each line
on standard input deploys the application again, with the weights that the file then holds.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.handle import DeploymentHandle
from shared import SETTINGS, Settings, Vote, make_member

app = FastAPI()
SHARE = {"num_cpus": 0.1}
"""Ray counts cores to place replicas, not to limit them."""


class Question(BaseModel):
    """A request."""

    text: str
    category: str
    attributes: list[str]


class Answer(BaseModel):
    """The decision."""

    values: list[str]
    confidence: list[float]
    member_values: list[list[str]]
    weights_version: int


class Member:
    """Answer many requests at once, as an LLM engine with in-flight batching does."""

    def __init__(self, name: str) -> None:
        self.member = make_member(Settings.read(), name)

    async def values(self, text: str, category: str, attributes: list[str]) -> list[str]:
        """Return a value per attribute."""
        return await self.member.values(text, category, attributes)


@serve.ingress(app)
class Ensemble:
    """Ask all members at once and count their votes; ``user_config`` holds the weights."""

    def __init__(self, *members: DeploymentHandle) -> None:
        self.members = members

    def reconfigure(self, weights: dict[str, Any]) -> None:
        """Take the first weights, and new ones without a restart."""
        self.vote = Vote(weights)

    @app.post("/answer")
    async def answer(self, question: Question) -> Answer:
        """Ask all members, count their votes."""
        asked = (m.values.remote(question.text, question.category, question.attributes) for m in self.members)
        return Answer(**self.vote.answer(await asyncio.gather(*asked)))


def deploy(settings: Settings) -> None:
    """Deploy, or update the running deployment."""
    deployment = serve.deployment(max_ongoing_requests=1000, ray_actor_options=SHARE)
    members = [deployment(Member).options(name=name).bind(name) for name in settings.members]
    weights = json.loads(settings.weights.read_text("utf-8"))
    serve.run(deployment(Ensemble).options(user_config=weights).bind(*members), route_prefix="/")


if __name__ == "__main__":
    here = Settings.read()
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=sys.argv[1],
        runtime_env={"env_vars": {"PYTHONPATH": path, SETTINGS: os.environ[SETTINGS]}},
    )
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=here.ports["gateway"]))
    deploy(here)
    for _ in sys.stdin:
        deploy(here)
        print("deployed", flush=True)  # noqa: T201  (the protocol with the parent)

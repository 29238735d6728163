# SPDX-License-Identifier: Apache-2.0
"""Serve a member as its own FastAPI service: ``fastapi_member.py NAME``."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from shared import Settings, make_member

settings = Settings.read()
name = sys.argv[1]
member = make_member(settings, name)
app = FastAPI()


class Question(BaseModel):
    """A request."""

    text: str
    category: str
    attributes: list[str]


class Values(BaseModel):
    """A value per attribute."""

    values: list[str]


@app.post("/answer")
async def answer(question: Question) -> Values:
    """Ask the member."""
    return Values(values=await member.values(question.text, question.category, question.attributes))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=settings.ports[name], log_level="warning", access_log=False)

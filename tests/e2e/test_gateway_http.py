# SPDX-License-Identifier: Apache-2.0
"""The gateway over HTTP, before one server: its own paths, clients of OpenAI and Triton, quotas and TLS."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openai
import pytest
import tritonclient.http
from pydantic import BaseModel
from support.certificates import NO_OPENSSL, make_certificates, sign
from support.days import in_one_day
from support.deployment import ATTRIBUTES, Live, running, said, set_state, title, write_deployment
from support.gateway import Guarded, gated
from support.http_half import claimed_port, exchange, request_of, serving
from tritonclient.utils import InferenceServerException

from quorum.deployment import load_deployment
from quorum.gateway.keys import add_caller
from quorum.repository.render import render
from quorum_client import takes_canary

PRICE = 0.5
MEMBERS = ("alpha", "beta", "gamma")
SHARE = 0.5


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Three members with a price, and a canary that half of the products belong to."""
    members = {name: {"price": {"per_call": PRICE}} for name in MEMBERS}
    deploy = write_deployment(tmp_path_factory.mktemp("http"), members, currency="EUR")
    spec = load_deployment(deploy)
    render(spec)
    set_state(spec, [1], share=SHARE)
    with running(deploy) as live:
        yield live


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    path = folder / "keys.json"
    return {
        "shop": add_caller(path, "shop"),
        "reader": add_caller(path, "reader", ["read"]),
        "few": add_caller(path, "few", requests_per_day=3),
        "thrifty": add_caller(path, "thrifty", cost_per_day=3 * PRICE),
    }


@pytest.fixture(scope="module")
def gateway(live: Live, folder: Path, keys: dict[str, str]) -> Iterator[Guarded]:
    with gated(live, folder, http_port=0, request_log={"path": "requests.jsonl"}) as found:
        yield found
        assert found.reports == []


class Answer:
    """What curl got."""

    def __init__(self, raw: str) -> None:
        head, _, self.text = raw.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        self.status = int(first.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines)

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def curl(gateway: Guarded, path: str, body: Any = None, key: str | None = None, **headers: str) -> Answer:
    """Ask by curl; the body is JSON."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    more = ["--json", json.dumps(body)] if body is not None else []
    for name, value in (sent | headers).items():
        more += ["-H", f"{name.replace('_', '-')}: {value}"]
    command = ["curl", "-s", "-i", "-m", "60", f"http://{gateway.http}{path}", *more]
    return Answer(subprocess.run(command, capture_output=True, check=True).stdout.decode())


def test_a_product_gets_its_answer_with_every_vote_and_its_cost(
    gateway: Guarded, keys: dict[str, str]
) -> None:
    asked = {"text": title(2), "attributes": ["color", "brand"], "id": "sku-2"}
    found = curl(gateway, "/v1/extract", asked, keys["shop"], x_request_id="mine")
    assert found.status == 200
    assert found.headers["x-request-id"] == "mine"
    body = found.json
    assert [(one["attribute"], one["value"]) for one in body["answers"]] == [
        ("color", said(-1, 2, "color")),
        ("brand", said(-1, 2, "brand")),
    ]
    votes = body["answers"][1]["votes"]
    assert {vote["member"]: vote["value"] for vote in votes} == {
        name: said(at, 2, "brand") for at, name in enumerate(MEMBERS)
    }
    assert {vote["status"] for vote in votes} == {"ANSWERED"}
    assert (body["id"], body["cost"], body["currency"], body["weights_version"]) == ("sku-2", 1.5, "EUR", 1)
    assert body["usage"]["alpha"]["calls"] == 1
    # Without attributes those of the catalogue are answered.
    whole = curl(gateway, "/v1/extract", {"text": title(3), "category": "shoes"}, keys["shop"]).json
    assert [one["attribute"] for one in whole["answers"]] == list(ATTRIBUTES)


def test_several_products_are_answered_in_their_order_and_one_that_fails_alone(
    gateway: Guarded, keys: dict[str, str]
) -> None:
    products = [{"text": title(p), "id": f"p{p}", "category": "shoes" if p % 2 else ""} for p in range(12)]
    products.insert(3, {"text": " ", "id": "blank"})
    asked = {"products": products, "attributes": ["brand"]}
    results = curl(gateway, "/v1/extract", asked, keys["shop"]).json["results"]
    assert [one["id"] for one in results] == [one["id"] for one in products]
    assert results[3]["error"]["code"] == "INVALID_REQUEST"
    assert "answer" not in results[3]
    right = [said(-1, p, "brand") for p in (0, 4, 6, 8, 10)]
    values = [one["answer"]["answers"][0]["value"] for one in results if "answer" in one]
    assert [values[p] for p in (0, 4, 6, 8, 10)] == right
    too_many = curl(gateway, "/v1/extract", {"products": products * 3}, keys["shop"])
    assert (too_many.status, too_many.json["code"]) == (422, "INVALID_REQUEST")


def test_products_of_the_canarys_share_always_get_its_channel(gateway: Guarded, keys: dict[str, str]) -> None:
    curl(gateway, "/v1/extract", {"text": title(2)}, keys["shop"])
    ids = [f"sku-{n}" for n in range(20)]
    products = [{"text": title(2), "id": one} for one in ids]
    for _ in range(2):
        results = curl(gateway, "/v1/extract", {"products": products}, keys["shop"]).json["results"]
        assert {one["id"]: one["answer"]["channel"] for one in results} == {
            one: "quorum_canary" if takes_canary(one, SHARE) else "quorum" for one in ids
        }


def test_roles_quotas_and_deadlines_have_their_statuses(gateway: Guarded, keys: dict[str, str]) -> None:
    asked = {"text": title(2), "attributes": ["brand"]}
    reader = curl(gateway, "/v1/extract", asked, keys["reader"])
    assert (reader.status, reader.json["code"]) == (403, "PERMISSION_DENIED")
    assert curl(gateway, "/v2/models/quorum", key=keys["reader"]).status == 200
    late = curl(gateway, "/v1/extract", asked, keys["shop"], x_request_timeout_ms="1")
    assert (late.status, late.json["code"]) == (504, "DEADLINE_EXCEEDED")
    in_one_day()
    many = {"products": [asked | {"id": f"{n}"} for n in range(4)]}
    results = curl(gateway, "/v1/extract", many, keys["few"]).json["results"]
    assert [one["error"]["code"] for one in results if "error" in one] == ["QUOTA_SPENT"]
    spent = curl(gateway, "/v1/extract", asked, keys["few"])
    assert (spent.status, spent.json["code"]) == (429, "QUOTA_SPENT")
    assert 0 < int(spent.headers["retry-after"]) == spent.json["retry_after_s"] <= 86_400
    assert curl(gateway, "/v1/extract", asked, keys["thrifty"]).status == 200
    assert curl(gateway, "/v1/extract", asked, keys["thrifty"]).status == 429
    missing = curl(gateway, "/v1/recommend", {"text": "shoes"}, keys["shop"])
    assert (missing.status, missing.json["code"]) == (404, "CHANNEL_NOT_FOUND")


class Shoe(BaseModel):
    brand: str
    color: Literal["Red", "Green", "Blue"] | None
    size: int | None
    laces: bool | None = None


def test_openais_client_gets_attributes(gateway: Guarded, keys: dict[str, str]) -> None:
    with openai.OpenAI(base_url=f"http://{gateway.http}/v1", api_key=keys["shop"]) as client:
        messages: Any = [
            {"role": "system", "content": "You extract attributes."},
            {"role": "user", "content": [{"type": "text", "text": title(2)}]},
        ]
        parsed = client.chat.completions.parse(model="quorum", messages=messages, response_format=Shoe)
        shoe = parsed.choices[0].message.parsed
        assert shoe == Shoe(brand=said(-1, 2, "brand"), color="Blue", size=38, laces=None)
        assert parsed.system_fingerprint == "weights-1"
        assert parsed.usage is not None
        assert (parsed.usage.total_tokens, parsed.usage.cost, parsed.usage.currency) == (None, 1.5, "EUR")  # type: ignore[attr-defined]
        answers = parsed.quorum["answers"]  # type: ignore[attr-defined]
        assert [one["attribute"] for one in answers] == ["brand", "color", "size", "laces"]
        assert [len(one["votes"]) for one in answers] == [3] * 4
        whole = client.chat.completions.create(
            model="quorum", messages=messages, temperature=0, max_tokens=50, seed=1,
            response_format={"type": "json_object"}, extra_body={"quorum": {"product_id": "sku-2"}},
        )  # fmt: skip
        values = json.loads(whole.choices[0].message.content or "")
        assert values == {name: said(-1, 2, name) for name in ATTRIBUTES}
        assert "quorum" in [model.id for model in client.models.list()]
        assert client.models.retrieve("quorum").id == "quorum"


def test_openais_client_gets_streams_and_errors(gateway: Guarded, keys: dict[str, str]) -> None:
    messages: Any = [{"role": "user", "content": title(2)}]
    url = f"http://{gateway.http}/v1"
    with openai.OpenAI(base_url=url, api_key=keys["shop"], max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(
                model="quorum", messages=messages, stream=True, stream_options={"include_usage": True}
            )
        )
        assert json.loads(chunks[0].choices[0].delta.content or "")["brand"] == said(-1, 2, "brand")
        assert chunks[0].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is not None
        with client.chat.completions.stream(
            model="quorum", messages=messages, response_format=Shoe
        ) as stream:
            assert stream.get_final_completion().choices[0].message.parsed is not None
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="quorum", messages=messages, n=2)
        assert (caught.value.code, caught.value.param) == ("PARAMETER_UNSUPPORTED", "n")
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4o", messages=messages)
        # A value that the schema has no place for is a refusal, not an error.
        narrow = {"type": "object", "properties": {"brand": {"enum": ["Acme"], "type": "string"}}}
        refused = client.chat.completions.create(
            model="quorum", messages=messages,
            response_format={"type": "json_schema", "json_schema": {"name": "shoe", "schema": narrow}},
        )  # fmt: skip
        assert refused.choices[0].message.content is None
        assert said(-1, 2, "brand") in (refused.choices[0].message.refusal or "")
    for key, kind in (("wrong", openai.AuthenticationError), (keys["reader"], openai.PermissionDeniedError)):
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client, pytest.raises(kind):
            client.chat.completions.create(model="quorum", messages=messages)


def tensors(binary: bool = False) -> list[Any]:
    given = {"TEXT": [title(2)], "CATEGORY": [""], "ATTRIBUTES": list(ATTRIBUTES)}
    found = []
    for name, values in given.items():
        tensor = tritonclient.http.InferInput(name, [len(values)], "BYTES")
        tensor.set_data_from_numpy(np.array(values, dtype=np.object_), binary_data=binary)
        found.append(tensor)
    return found


def test_tritons_client_over_http(gateway: Guarded, keys: dict[str, str]) -> None:
    """Without binary tensors; all that it asks for else is answered."""
    headers = {"Authorization": f"Bearer {keys['shop']}"}
    with tritonclient.http.InferenceServerClient(gateway.http) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("quorum")
        assert client.get_server_metadata(headers=headers)["name"] == "quorum"
        assert client.get_model_metadata("quorum", headers=headers)["inputs"][0]["name"] == "TEXT"
        found = client.infer("quorum", tensors(), headers=headers, request_id="7", timeout=10_000_000)
        assert found.get_response()["id"] == "7"
        assert list(found.as_numpy("VALUES")) == [said(-1, 2, name) for name in ATTRIBUTES]
        assert found.get_response()["outputs"][0]["shape"]
        # A number that is not known is null, which strict parsers read.
        scores = found.get_output("MEMBER_SCORES")
        assert scores["data"] == [None] * 9
        wanted = [tritonclient.http.InferRequestedOutput("VALUES", binary_data=False)]
        one = client.infer("quorum", tensors(), outputs=wanted, headers=headers)
        assert [output["name"] for output in one.get_response()["outputs"]] == ["VALUES"]
        for how, message in (
            (
                {"outputs": [tritonclient.http.InferRequestedOutput("VALUES", class_count=1)]},
                "classification",
            ),
            ({"sequence_id": 5, "sequence_start": True}, "sequence"),
            ({"priority": 5}, "priority"),
        ):
            with pytest.raises(InferenceServerException, match=message):
                client.infer("quorum", tensors(), headers=headers, **how)
        with pytest.raises(InferenceServerException, match="binary"):
            client.infer("quorum", tensors(binary=True), headers=headers)
        with pytest.raises(InferenceServerException, match="wrong or missing key"):
            client.infer("quorum", tensors())


def test_the_log_names_callers_and_keeps_no_texts(
    gateway: Guarded, folder: Path, keys: dict[str, str]
) -> None:
    curl(gateway, "/v1/extract", {"text": title(2), "id": "sku-logged"}, keys["shop"], x_request_id="logged")
    text = (folder / "requests.jsonl").read_text("utf-8")
    (line,) = [found for found in map(json.loads, text.splitlines()) if found["request_id"] == "logged"]
    assert (line["caller"], line["outcome"], line["cost"]) == ("shop", "OK", 1.5)
    assert "größe" not in text
    assert "sku-logged" not in text
    assert not [key for key in keys.values() if key in text]


def test_a_question_waits_for_a_server_that_is_away(live: Live, tmp_path: Path) -> None:
    """Its first connection breaks under it, too."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def ask() -> tuple[bytes, int]:
        host, _, port = live.url.rpartition(":")
        tasks, accepted = set[asyncio.Task[None]](), 0

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal accepted
            accepted += 1
            if accepted == 1:
                await reader.read(1)
                writer.close()
                return
            there = await asyncio.open_connection(host, int(port))
            tasks.update(
                asyncio.ensure_future(pump(*ends)) for ends in ((reader, there[1]), (there[0], writer))
            )

        body = json.dumps({"text": title(2), "attributes": ["brand"]}).encode()
        with claimed_port() as claim:
            target = f"127.0.0.1:{claim.getsockname()[1]}"
            async with serving(
                tmp_path, target=target, wait_s=60.0, timeout_s=60.0, max_timeout_s=60.0
            ) as own:
                asked = asyncio.create_task(exchange(own, request_of("POST", "/v1/extract", body)))
                await asyncio.sleep(0.3)
                server = await asyncio.start_server(forward, sock=claim)
                async with server:
                    found = await asked
                    for task in tasks:
                        task.cancel()
                return found, accepted

    found, accepted = asyncio.run(ask())
    assert found.startswith(b"HTTP/1.1 200")
    assert accepted >= 2


@NO_OPENSSL
def test_mutual_tls_with_a_certificate_that_is_replaced(
    live: Live, folder: Path, keys: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    shutil.copy(folder / "keys.json", tmp_path)
    for name in ("server.pem", "server.key", "ca.pem"):
        shutil.copy(made / name, tmp_path)
    tls = {"certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
    body = json.dumps({"text": title(2), "attributes": ["brand"]})
    headers = {"authorization": f"Bearer {keys['shop']}", "content-type": "application/json"}

    def ask(gateway: Guarded, certificate: str | None = "client") -> tuple[int, bytes]:
        """Status of an answer, and the certificate of the gateway."""
        context = ssl.create_default_context(cafile=str(made / "ca.pem"))
        if certificate:
            context.load_cert_chain(made / f"{certificate}.pem", made / f"{certificate}.key")
        connection = http.client.HTTPSConnection(gateway.http, timeout=60, context=context)
        try:
            connection.request("POST", "/v1/extract", body, headers)
            served = connection.sock.getpeercert(binary_form=True)
            return connection.getresponse().status, served
        finally:
            connection.close()

    with gated(live, tmp_path, http_port=0, tls=tls) as gateway:
        status, first = ask(gateway)
        assert status == 200
        for certificate in (None, "stranger"):
            with pytest.raises(OSError):
                ask(gateway, certificate)
        sign(made, "server")
        for name in ("server.key", "server.pem"):
            shutil.copy(made / name, tmp_path)
        status, second = ask(gateway)
        assert (status, second != first) == (200, True)
        # Callers of another authority from now on.
        shutil.copy(made / "stranger.pem", tmp_path / "ca.pem")
        assert ask(gateway, "stranger")[0] == 200
        with pytest.raises(OSError):
            ask(gateway)

# SPDX-License-Identifier: Apache-2.0
"""`quorum validate` names members that were tuned for no attribute of the catalogue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.encoder_members import VALUES
from support.encoders import write_encoder
from typer.testing import CliRunner

import quorum
from quorum.cli import app
from quorum.decision.catalogue_change import OUTSIDE
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.default import Default


def deployment(folder: Path, member: dict[str, Any], attributes: dict[str, Any]) -> quorum.Deployment:
    path = folder / "deploy.yaml"
    path.write_text(json.dumps({"members": [member], "attributes": attributes}), "utf-8")
    return quorum.load_deployment(path)


def test_an_encoder_of_an_attribute_that_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    write_encoder(tmp_path / "ner", "value", VALUES, Catalogue.of([Attribute("maker")]), ["maker"])
    # As tuned without a deployment: an attribute that no catalogue listed.
    described = json.loads((tmp_path / "ner" / "encoder.json").read_text("utf-8"))
    described["catalogue"]["maker"] = Catalogue({}).hashes[OUTSIDE]
    (tmp_path / "ner" / "encoder.json").write_text(json.dumps(described), "utf-8")
    member = {"name": "small", "runtime": "encoder", "options": {"model": "ner"}}
    (warning,) = quorum.validate(deployment(tmp_path, member, {"brand": {}, "size": {}}))
    assert warning.endswith(
        "deploy.yaml: members[0]: 'small' answers maker only, and `attributes` has brand, size: it votes on "
        "none of these; list what it answers as it was at tuning time, or take the member out"
    )
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["validate"])
    assert (shown.exit_code, f"warning: {Path('deploy.yaml')}: members[0]" in shown.stderr) == (0, True)
    assert len(json.loads(CliRunner().invoke(app, ["validate", "--json"]).stdout)["warnings"]) == 1
    assert quorum.validate(deployment(tmp_path, member, {"maker": {}, "size": {}})) == ()


def test_an_encoder_of_the_default_question(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    asked = {"question": "Is {name} it?", "values": ["no", "yes"]}
    catalogue = Catalogue.of([], default=Default("Is {name} it?", ("no", "yes")))
    write_encoder(tmp_path / "pairs", "label", {"a": [1, 0]}, catalogue, [OUTSIDE], ["no", "yes"])
    member = {"name": "small", "runtime": "encoder", "options": {"model": "pairs"}}
    path = tmp_path / "deploy.yaml"
    path.write_text(json.dumps({"members": [member], "attributes": {"brand": {}}, "default": asked}))
    assert quorum.validate(quorum.load_deployment(path)) == ()
    path.write_text(
        json.dumps({"members": [member], "attributes": {}, "default": asked | {"values": ["y", "n"]}})
    )
    with pytest.raises(quorum.QuorumError, match="judge and distil again"):
        quorum.validate(quorum.load_deployment(path))


@pytest.mark.parametrize("options", [{"lora": "tuned"}, {"adapters": {"brand": "tuned"}}])
def test_an_adapter_of_another_task(tmp_path: Path, options: dict[str, Any]) -> None:
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
        for file in ("config.json", "adapter_config.json", "tokenizer.json", "model.safetensors"):
            (tmp_path / name / file).write_text("{}")
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"")
    asked = [{"attributes": ["relevance"], "hash": "sha256:0"}]
    card = {"prompts": {"style": "bare", "chat": False, "asked": asked}}
    (tmp_path / "tuned" / "card.json").write_text(json.dumps(card))
    member = {"name": "smol", "runtime": "hf", "options": {"model": "base", **options}, "prompt": "bare"}
    (warning,) = quorum.validate(deployment(tmp_path, member, {"brand": {}, "size": {}}))
    assert "'smol' was tuned (tuned) for relevance only, and `attributes` has brand, size" in warning
    asked[0]["attributes"] = ["brand"]
    card["prompts"]["asked"] = [{"attributes": ["brand", "colour"], "hash": "sha256:0"}]
    (tmp_path / "tuned" / "card.json").write_text(json.dumps(card))
    assert quorum.validate(deployment(tmp_path, member, {"brand": {}, "size": {}})) == ()

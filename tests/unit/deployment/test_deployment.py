# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from quorum.deployment import DeploymentError, load_deployment
from quorum.runtimes.lookup_options import ReplayOptions

GOOD = """\
attributes:
  color:
    values: [red, blue]
    synonyms: {crimson: red}
  size: {normaliser: measure}
members:
  - name: alpha
    runtime: replay
    options: {votes: votes.jsonl}
  - name: beta
    runtime: replay
    options: {votes: other.jsonl, seed: 3}
gate:
  max_in_flight: 8
server:
  grpc_port: 0
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "deploy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_deployment_is_read_with_its_defaults(tmp_path: Path) -> None:
    spec = load_deployment(write(tmp_path, GOOD))
    assert spec.member_names == ["alpha", "beta"]
    assert spec.members[0].options == ReplayOptions(votes="votes.jsonl")
    assert (spec.gate.max_in_flight, spec.gate.timeout_s, spec.gate.allow_direct) == (8, 30.0, False)
    assert (spec.vote.min_members, spec.vote.min_weight, spec.vote.grace_ms) == (1, 0.0, None)
    assert (spec.server.grpc_port, spec.server.host) == (0, "127.0.0.1")
    assert spec.repository_path == tmp_path / "model_repository"
    assert spec.catalogue().get("color").normalise("Crimson") == "red"
    assert spec.catalogue().get("size").normalise("5 CM") == "5cm"


CASES: dict[str, tuple[str, str, list[str]]] = {
    "unknown key in a member": (
        "runtime: replay\n    options",
        "runtim: replay\n    options",
        [":8:", "members[0].runtim", "'runtime'"],
    ),
    "unknown top key": ("gate:", "gates:", [":13:", "gates", "'gate'"]),
    "unknown key of no likeness": (
        "  max_in_flight: 8",
        "  zzz: 8",
        [":14:", "gate.zzz", "max_in_flight", "timeout_s"],
    ),
    "unknown key in an attribute": ("values:", "vales:", [":3:", "attributes.color.vales", "'values'"]),
    "unknown runtime": (
        "name: beta\n    runtime: replay",
        "name: beta\n    runtime: magic",
        [":11:", "members[1].runtime", "'magic'", "replay", "openvino"],
    ),
    "duplicate member": ("name: beta", "name: alpha", ["'alpha'", "two members"]),
    "a reserved name": ("name: beta", "name: quorum_vote", [":10:", "members[1].name", "quorum's own"]),
    "a channel's name": ("name: beta", "name: quorum", [":10:", "members[1].name", "quorum's own"]),
    "a name with a slash": ("name: beta", "name: ../beta", [":10:", "members[1].name", "a-z"]),
    "an upper-case name": ("name: beta", "name: Beta", [":10:", "members[1].name", "a-z"]),
    "no name": ("name: beta", "prompt: bare", [":10:", "members[1].name", "missing"]),
    "a name that is a number": ("name: beta", "name: 7", [":10:", "members[1].name", "7"]),
    "wrong type": (
        "max_in_flight: 8",
        "max_in_flight: many",
        [":14:", "gate.max_in_flight", "'many'", "integer"],
    ),
    "below the range": ("max_in_flight: 8", "max_in_flight: 0", [":14:", "gate.max_in_flight", "0"]),
    "above the range": ("max_in_flight: 8", "max_in_flight: 5000", [":14:", "gate.max_in_flight", "4096"]),
    "port out of range": ("grpc_port: 0", "grpc_port: 70000", [":16:", "server.grpc_port", "65535", "70000"]),
    "one port for two": (
        "grpc_port: 0",
        "grpc_port: 7000\n  metrics_port: 7000",
        [":17:", "server.metrics_port", "grpc_port and metrics_port are both 7000", "free one"],
    ),
    "the port that another has by default": (
        "grpc_port: 0",
        "grpc_port: 8002",
        [":16:", "server.grpc_port", "grpc_port and metrics_port are both 8002"],
    ),
    "the port of HTTP": (
        "grpc_port: 0",
        "http: true\n  http_port: 8002",
        [":17:", "server.http_port", "metrics_port and http_port are both 8002"],
    ),
    "one server twice in a fleet": (
        "gate:",
        "fleet: [{grpc: 'a:1'}, {grpc: 'b:1'}, {grpc: 'a:1'}]\ngate:",
        [":13:", "fleet[2].grpc", "a:1 is fleet[0] already"],
    ),
    "a quorum of more members than there are": (
        "gate:",
        "vote:\n  min_weight: 0.5\n  min_members: 3\ngate:",
        [":15:", "vote.min_members", "there are 2", "1 to 2"],
    ),
    "a quorum of none": ("gate:", "vote: {min_members: 0}\ngate:", [":13:", "vote.min_members", "0"]),
    "more than all of the weight": ("gate:", "vote: {min_weight: 1.5}\ngate:", [":13:", "vote.min_weight"]),
    "no grace at all": ("gate:", "vote: {grace_ms: 0}\ngate:", [":13:", "vote.grace_ms", "0"]),
    "endless timeout": ("max_in_flight: 8", "timeout_s: .inf", [":14:", "gate.timeout_s", "finite"]),
    "time that runs backwards": (
        "max_in_flight: 8",
        "timeout_s: -1",
        [":14:", "gate.timeout_s", "greater than 0"],
    ),
    "unknown prompt": (
        "    runtime: replay\n    options",
        "    runtime: replay\n    prompt: poem\n    options",
        [":9:", "members[0].prompt", "'instruct'", "'poem'"],
    ),
    "unknown normaliser": (
        "normaliser: measure",
        "normaliser: upper",
        [":5:", "attributes.size.normaliser", "'upper'", "measure"],
    ),
    "synonym of nothing": (
        "crimson: red",
        "crimson: scarlet",
        [":2:", "attributes.color", "'crimson'", "'scarlet'"],
    ),
    "an example with a label of nothing": (
        "synonyms: {crimson: red}",
        "examples: [{text: a hat, answer: green}]",
        [":2:", "attributes.color", "examples[0]", "'green'", "red, blue"],
    ),
    "an example of other fields": (
        "synonyms: {crimson: red}",
        "examples: [{text: {query: a hat}, answer: red}]",
        [":2:", "attributes.color", "'query'", "`fields`"],
    ),
    "a text that is longer than what is read": (
        "{normaliser: measure}",
        "{kind: text, max_chars: 9000}",
        [":5:", "attributes.size.max_chars", "8000"],
    ),
    "a field that no client can send": (
        "{normaliser: measure}",
        "{fields: [Query X]}",
        [":5:", "attributes.size", "'Query X'"],
    ),
    "two values alike": ("[red, blue]", "[red, RED]", ["attributes", "'color'", "same"]),
    "values that YAML reads as truth": (
        "[red, blue]",
        "[yes, no]",
        [":3:", "attributes.color.values[0]", "string", "True"],
    ),
    "an attribute without a name": ("  size:", "  ' ':", ["attributes", "cannot name an attribute"]),
    "an attribute with a control character": ("  size:", '  "si\\nze":', ["attributes", "control"]),
    "key twice": ("  size:", "  color: {}\n  size:", [":5:", "'color'", "twice"]),
    "key twice, deep": (
        "runtime: replay\n    options",
        "name: x\n    runtime: replay\n    options",
        [":8:", "'name'", "twice"],
    ),
    "not YAML": ("gate:", "gate: [", [":1", "not YAML"]),
    "a tab": ("  max", "\tmax", [":14", "not YAML"]),
    "the file's own path": ("gate:", "path: x\ngate:", [":13:", "path", "unknown key"]),
    "a misspelt option": (
        "{votes: votes.jsonl}",
        "{vote: votes.jsonl}",
        [":9:", "members[0].options.vote", "did you mean 'votes'?"],
    ),
    "an option of no likeness": ("seed: 3", "zzz: 3", [":12:", "members[1].options.zzz", "latency_ms"]),
    "a misspelt option of openvino": (
        "runtime: replay\n    options: {votes: votes.jsonl}",
        "runtime: openvino\n    options: {thread: 3}",
        [":9:", "members[0].options.thread", "'threads'"],
    ),
    "openvino without a model": (
        "runtime: replay\n    options: {votes: votes.jsonl}",
        "runtime: openvino\n    options: {threads: 3}",
        [":9:", "members[0].options.model", "missing", "quorum build"],
    ),
    "no options at all": (
        "\n    options: {votes: votes.jsonl}",
        "",
        [":7:", "members[0].options.votes", "missing", "quorum extract"],
    ),
    "an option left empty": (
        "{votes: votes.jsonl}",
        "{votes: }",
        [":9:", "members[0].options.votes", "missing"],
    ),
    "an option of another type": (
        "seed: 3",
        "seed: many",
        [":12:", "members[1].options.seed", "'many'", "whole number"],
    ),
    "a truth for a number": (
        "seed: 3",
        "seed: yes",
        [":12:", "members[1].options.seed", "True", "whole number"],
    ),
    "an option outside its choices": (
        "runtime: replay\n    options: {votes: votes.jsonl}",
        "runtime: openvino\n    options: {model: m, precision: f31}",
        [":9:", "precision", "'f31'", "bf16"],
    ),
    "options that are no mapping": (
        "{votes: votes.jsonl}",
        "[votes]",
        [":9:", "members[0].options:", "mapping of options"],
    ),
    "an adapter without a folder": (
        "runtime: replay\n    options: {votes: votes.jsonl}",
        "runtime: tensorrt_llm\n    options: {model: m, lora: {name: x}}",
        [":9:", "members[0].options.lora", "it has path, and may have name and rank"],
    ),
    "unknown default normaliser": (
        "gate:",
        "default_normaliser: lower\ngate:",
        [":13:", "default_normaliser", "'lower'", "measure"],
    ),
    "attributes that differ in case": (
        "  size:",
        "  Color: {}\n  size:",
        [":5:", "attributes.Color", "'color'", "case"],
    ),
    "white space around an attribute": ("  size:", "  'size ':", [":5:", "attributes.size ", "white space"]),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_say_file_line_key_and_mend(tmp_path: Path, case: str) -> None:
    old, new, words = CASES[case]
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DeploymentError) as caught:
        load_deployment(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert all(word in message for word in words), message


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "5", "1.5", "2024-01-01"])
def test_words_that_yaml_reads_as_something_else_must_be_quoted(tmp_path: Path, word: str) -> None:
    for old, new in (("[red, blue]", f"[red, {word}]"), ("crimson: red", f"crimson: {word}")):
        with pytest.raises(DeploymentError, match=r"valid string \(given: .*\); .*: quote it$"):
            load_deployment(write(tmp_path, GOOD.replace(old, new)))
        quoted = GOOD.replace("blue]", f'blue, "{word}"]').replace(old, new.replace(word, f'"{word}"'))
        assert word in load_deployment(write(tmp_path, quoted)).attributes["color"].values
    with pytest.raises(DeploymentError) as caught:
        load_deployment(write(tmp_path, GOOD.replace("[red, blue]", "[red, null]")))
    assert "quote" not in str(caught.value)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    for text, key in [
        ("attributes: {}\n", "members: missing"),
        ("members: [{name: a, runtime: replay}]\n", "attributes: missing"),
        ("attributes: {}\nmembers: []\n", "members"),
        ("attributes: {}\nmembers: {a: {}}\n", "members"),
        ("attributes: {}\nmembers: [a]\n", "members[0]"),
    ]:
        with pytest.raises(DeploymentError) as caught:
            load_deployment(write(tmp_path, text))
        assert key in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"hello", b"---\na: 1\n---\nb: 2\n", b"\xff\xfe\x00", b"a: \x07", b"1: 2\n"]
)
def test_files_that_are_no_deployment_are_named(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DeploymentError, match=r"deploy\.yaml"):
        load_deployment(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"nowhere\.yaml.*--deploy"):
        load_deployment(tmp_path / "nowhere.yaml")
    with pytest.raises(DeploymentError, match="--deploy"):
        load_deployment(tmp_path)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("max_in_flight: 8", "max_in_flight: 0").replace("grpc_port: 0", "grpc_port: -1")
    with pytest.raises(DeploymentError) as caught:
        load_deployment(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 2


LLAMA = {"runtime": "tensorrt_llm", "options": {"model": "llama", "max_batch_size": 32}}


def shared(tmp_path: Path, **options: Any) -> Any:
    other = {**LLAMA, "options": {**LLAMA["options"], **options}}
    members = {"alpha": {}, "plain": LLAMA, "tuned": other}
    deploy = tmp_path / "deploy.yaml"
    text = {"attributes": {}, "members": [{"name": n, "runtime": "replay", **m} for n, m in members.items()]}
    text["members"][0]["options"] = {"votes": "votes.jsonl"}
    deploy.write_text(yaml.safe_dump(text))
    return load_deployment(deploy)


def test_members_on_one_base_are_one_model(tmp_path: Path) -> None:
    models = shared(tmp_path, lora={"path": "adapter"}, max_tokens=64).models()
    assert {name: [m.name for m in members] for name, members in models.items()} == {
        "alpha": ["alpha"],
        "quorum_shared_plain": ["plain", "tuned"],
    }


def test_members_on_one_base_must_want_the_same_llm(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"'plain' and 'tuned' share .* differ in max_batch_size"):
        shared(tmp_path, max_batch_size=64)


ADAPTED = """
attributes: {color: {}, size: {}}
members:
  - name: a
    runtime: hf
    options:
      model: base
      lora: usual
      adapters:
        color: colors
        %s: sizes
"""


def test_adapters_answer_attributes_of_the_catalogue(tmp_path: Path) -> None:
    options = load_deployment(write(tmp_path, ADAPTED % "size")).members[0].options
    assert options.adapters_used == ("usual", "colors", "sizes")
    with pytest.raises(DeploymentError) as caught:
        load_deployment(write(tmp_path, ADAPTED % "sise"))
    message = (
        "11: members[0].options.adapters.sise: the catalogue has no attribute 'sise'; did you mean 'size'?"
    )
    assert str(caught.value).endswith(message)
    with pytest.raises(DeploymentError, match="add it to `attributes`, or take it out here"):
        load_deployment(write(tmp_path, ADAPTED % "width"))


def hf_models(tmp_path: Path, *options: dict[str, Any]) -> dict[str, list[str]]:
    members = [
        {"name": f"m{number}", "runtime": "hf", "options": {"model": "base", **own}}
        for number, own in enumerate(options)
    ]
    deploy = write(tmp_path, yaml.safe_dump({"attributes": {"color": {}}, "members": members}))
    return {model: [m.name for m in own] for model, own in load_deployment(deploy).models().items()}


def test_hf_members_share_a_base_unless_they_want_their_own(tmp_path: Path) -> None:
    own, shared = {"lora": "a", "max_new_tokens": 64}, {"adapters": {"color": "b"}}
    assert hf_models(tmp_path, {}, own, shared) == {"quorum_shared_m0": ["m0", "m1", "m2"]}
    apart = {"shared": False, "device": "cpu"}
    assert hf_models(tmp_path, own, apart, shared, apart) == {
        "quorum_shared_m0": ["m0", "m2"],
        "m1": ["m1"],
        "m3": ["m3"],
    }
    elsewhere = {"device": "cuda:1"}
    assert list(hf_models(tmp_path, own, elsewhere, elsewhere)) == ["m0", "quorum_shared_m1"]


def test_continuous_batches_share_a_base_with_one_adapter_only(tmp_path: Path) -> None:
    continuous = {"batching": "continuous", "lora": "a"}
    other = {**continuous, "lora": "b"}
    models = hf_models(tmp_path, continuous, other, {**continuous, "max_new_tokens": 3})
    assert models == {"quorum_shared_m0": ["m0", "m2"], "m1": ["m1"]}


def bomb(merge: str) -> str:
    lines = [f"a0: &a0 {{{', '.join(f'k{i}: x' for i in range(9))}}}"]
    lines += [f"a{i}: &a{i} {merge.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 8)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("merge", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_repeat_themselves_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merge: str
) -> None:
    # Making the values would take minutes.
    monkeypatch.setattr(
        yaml.SafeLoader, "construct_document", lambda *_: pytest.fail("the aliases were written out")
    )
    with pytest.raises(DeploymentError, match=r"deploy.yaml:5: aliases \(\*name\) repeat more than 20000"):
        load_deployment(write(tmp_path, bomb(merge)))


def test_many_values_and_a_few_aliases_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorum.deployment.load.MAX_REPEATED", 10)
    values = ", ".join(f"v{i}" for i in range(30))
    text = GOOD.replace("red, blue", f"red, {values}").replace("options: {votes: v", "options: &o {votes: v")
    spec = load_deployment(write(tmp_path, text.replace("{votes: other.jsonl, seed: 3}", "*o")))
    assert spec.members[1].options == spec.members[0].options
    assert len(spec.attributes["color"].values or ()) == 31


def test_text_nested_too_deeply_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"deploy.yaml:1: not YAML: nested too deeply"):
        load_deployment(write(tmp_path, "members: " + "[" * 1200 + "]" * 1200))


def test_a_port_that_nobody_listens_at_is_no_conflict(tmp_path: Path) -> None:
    spec = load_deployment(write(tmp_path, GOOD.replace("grpc_port: 0", "http_port: 8002")))
    assert (spec.server.http, spec.server.http_port, spec.server.metrics_port) == (False, 8002, 8002)

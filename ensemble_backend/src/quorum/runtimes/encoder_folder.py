# SPDX-License-Identifier: Apache-2.0
"""Write and read ``encoder.json``, which says what an encoder answers, and check it before it is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from quorum.decision.catalogue_change import OUTSIDE
from quorum.files import hash_file, write_atomic
from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.heads import CODECS, HeadKind
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_contract import NOT_APPLICABLE
from quorum_contract.errors import QuorumError

ENCODER_FILE, MODEL_FILE, TOKENIZER_FILE = "encoder.json", "model.onnx", "tokenizer.json"
"""Files of an encoder's folder."""
SCHEMA_VERSION: Final = 1
SHORTEST, LONGEST = 8, 8192
"""Fewest and most tokens of the longest input; no encoder that can be tuned has more positions."""


class EncoderFileError(QuorumError, ValueError):
    """The file is no description of an encoder, or not for this catalogue; the message says what to do."""

    code = "ENCODER_INVALID"


class EncoderFile(msgspec.Struct, frozen=True, kw_only=True):
    """What an encoder answers, and how it was tuned: the content of ``encoder.json``.

    Attributes:
        head: What its logits are of; see :data:`quorum.runtimes.heads.CODECS`.
        attributes: Names that it answers; exactly one unless the head asks for attributes. ``OUTSIDE`` alone:
            all that the catalogue does not list, by its default question; head ``label`` only, whose pair of
            texts is TEXT and the attribute's name then.
        labels: In the order of the logits; empty where these are of places in the text.
        fields: Named fields that TEXT is made of; empty: TEXT is plain.
        max_tokens: Longest input, special tokens included.
        catalogue: Attribute -> its hash in the catalogue at the time of tuning.
        with_category: Whether the category is part of the question (of a head that asks).
        files: Name of a file of the folder -> ``sha256:...`` of it; empty: not known.
    """

    schema_version: Literal[1]
    head: HeadKind
    attributes: tuple[str, ...]
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    max_tokens: int = 64
    catalogue: dict[str, str] = {}
    with_category: bool = False
    files: dict[str, str] = {}

    @property
    def outputs(self) -> int:
        """Size of the last dimension of the logits."""
        return CODECS[self.head].outputs(self.labels)

    @property
    def is_outside(self) -> bool:
        """Whether it answers the default question."""
        return OUTSIDE in self.attributes

    def limited(self, tokens: int) -> EncoderFile:
        """The same with another longest input."""
        return msgspec.structs.replace(self, max_tokens=tokens)

    @property
    def dims(self) -> int:
        """Number of dimensions of the logits."""
        return CODECS[self.head].dims

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as ``encoder.json`` has them."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content


def write_encoder(described: EncoderFile, folder: Path) -> None:
    """Write the description of a folder's encoder, with the hashes of its network and tokenizer there."""
    files = {name: hash_file(folder / name) for name in (MODEL_FILE, TOKENIZER_FILE)}
    content = msgspec.structs.replace(described, files=files).to_json()
    write_atomic(folder / ENCODER_FILE, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def read_encoder(folder: Path) -> EncoderFile:
    """Read the description of a folder's encoder.

    Raises:
        EncoderFileError: It cannot be read, has another schema, or contradicts itself.
    """
    path = folder / ENCODER_FILE
    again = "make it again with `quorum tune`"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=EncoderFile)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EncoderFileError(f"{path} cannot be read ({error}); {again}") from error
    if problem := _problem(found):
        raise EncoderFileError(f"{path}: {problem}; {again}")
    return found


def open_folder(settings: RuntimeSettings[EncoderOptions]) -> tuple[EncoderFile, frozenset[str]]:
    """Read a member's folder, and check it against its options and the catalogue.

    Returns:
        The description, with the tokens that the member may take, and the attributes that it answers.

    Raises:
        RuntimeConfigError: The folder cannot be served so.
    """
    folder, longest = settings.root / settings.options.model, settings.options.max_tokens
    try:
        found = read_encoder(folder)
        names = answerable(found, settings.catalogue, folder)
        _check_files(found, folder)
    except EncoderFileError as error:
        raise settings.error(str(error)) from error
    if longest is None:
        return found, names
    if longest > found.max_tokens:
        raise settings.error(
            f"max_tokens is {longest}, and {folder} was tuned on {found.max_tokens} tokens; give at most that"
        )
    return found.limited(longest), names


def _check_files(found: EncoderFile, folder: Path) -> None:
    """Refuse files of another encoder: a tokenizer of another base would give wrong answers without an error.

    Raises:
        EncoderFileError: A file is not the one that was written with the description.
    """
    for name, expected in found.files.items():
        # A name with a folder could be of any file of the machine.
        path = folder / Path(name).name
        if not path.is_file():
            continue
        actual = hash_file(path)
        if actual != expected:
            raise EncoderFileError(
                f"{path} is not the file that was written with {ENCODER_FILE}: its hash is {actual:.23}...,"
                f" expected is {expected:.23}...; copy the whole folder again, or make it again with"
                " `quorum tune`"
            )


def _problem(found: EncoderFile) -> str:
    """Why a description contradicts itself; empty where it does not."""
    if not SHORTEST <= found.max_tokens <= LONGEST:
        return f"max_tokens is {found.max_tokens}, and {SHORTEST} to {LONGEST} can be served"
    codec = CODECS[found.head]
    if not found.attributes or (len(found.attributes) > 1 and not codec.asks):
        wanted = "at least one" if codec.asks else "exactly one"
        return f"head {found.head!r} answers {wanted} attribute, and {len(found.attributes)} are named"
    if found.is_outside and (found.head != "label" or found.fields):
        return "the default question is answered by head 'label' without fields only"
    problem = codec.problem(found.labels)
    return f"head {found.head!r}: {problem}" if problem else ""


def answerable(found: EncoderFile, catalogue: Catalogue, folder: Path) -> frozenset[str]:
    """Find the attributes whose answers mean what they meant at tuning time.

    Those that the catalogue does not list are open now, and left out if they were not then.

    Raises:
        EncoderFileError: A listed attribute has another meaning now, or none of them is left.
    """
    hashes = catalogue.hashes
    if found.is_outside:
        _check_default(found, catalogue, folder)
        return frozenset(found.attributes)
    same = set()
    for name in found.attributes:
        was, now = found.catalogue.get(name), hashes.get(name, hashes[OUTSIDE])
        if was == now:
            _check_labels(found, catalogue.get(name), folder)
            same.add(name)
        elif name in catalogue.attributes:
            raise EncoderFileError(
                f"{folder} was tuned for {name!r} of catalogue hash {was}, and deploy.yaml has {now}: values,"
                " synonyms, normaliser or kind differ; tune it again with `quorum tune`, or take the change"
                " back"
            )
    if not same:
        raise EncoderFileError(
            f"{folder} answers {', '.join(found.attributes[:5])}, and deploy.yaml lists none of these; add"
            " one to `attributes` as it was, or tune an encoder for another one with `quorum tune`"
        )
    return frozenset(same)


def _check_default(found: EncoderFile, catalogue: Catalogue, folder: Path) -> None:
    was, now = found.catalogue.get(OUTSIDE), catalogue.hashes[OUTSIDE]
    if catalogue.default is None:
        raise EncoderFileError(
            f"{folder} answers the default question, and deploy.yaml has none; add `default:` as it was when"
            " pairs were judged, or take the member out"
        )
    if was != now:
        raise EncoderFileError(
            f"{folder} was taught the default question of catalogue hash {was}, and deploy.yaml has {now}:"
            " question, values, synonyms or normaliser of `default` differ; judge and distil again, or take"
            " the change back"
        )
    _check_labels(found, catalogue.get(OUTSIDE), folder)


def _check_labels(found: EncoderFile, attribute: Attribute, folder: Path) -> None:
    named = CODECS[found.head].values(found.labels)
    allowed = {*attribute.values, *[NOT_APPLICABLE] * bool(attribute.allow_na)}
    if foreign := sorted(named - allowed):
        raise EncoderFileError(
            f"{folder / ENCODER_FILE}: label {foreign[0]!r} is no value of"
            f" {repr(attribute.name) if attribute.name else '`default`'}; make it again with `quorum tune`"
        )

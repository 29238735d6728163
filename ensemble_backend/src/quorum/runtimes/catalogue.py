# SPDX-License-Identifier: Apache-2.0
"""Look values up in products that are already filled in, instead of asking an LLM."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from quorum.runtimes.base import Done, Question, RuntimeSettings
from quorum.runtimes.filled_file import check_attributes, read_products
from quorum.runtimes.lookup_options import CatalogueOptions
from quorum.runtimes.value_index import ValueIndex
from quorum.tasks.parse import Vote
from quorum.tasks.score import rounded
from quorum.votes import VotesError, VotesTable, build_table
from quorum.votes.schema import known_scores
from quorum_contract import Status


class CatalogueRuntime:
    """Votes for values that a text contains, by :class:`quorum.runtimes.options.CatalogueOptions`."""

    def __init__(self, settings: RuntimeSettings[CatalogueOptions]) -> None:
        """Read the products and index their values; raises RuntimeConfigError for a file without any."""
        settings.check_files()
        path = settings.root / settings.options.products
        self._index = ValueIndex(partial(read_products, path), settings.catalogue)
        check_attributes(path, self._index.attributes, settings.catalogue)
        self._options = settings.options

    def submit(self, question: Question, done: Done) -> None:
        """Vote at once; the product itself does not count, if the catalogue has it with the same text."""
        done(self.look_up(question.text, question.attributes))

    def look_up(self, text: str, attributes: Sequence[str], same: Iterable[str] = ()) -> list[Vote]:
        """Return a vote per attribute; for ``same`` see :meth:`quorum.runtimes.value_index.ValueIndex.find`.

        The score is the logarithm of the value's precision. Where nothing is found the status is
        ``NOT_FOUND``.
        """
        found = self._index.find(text, attributes, self._options.min_precision, same)
        return [
            Vote(found[name].value, Status.ANSWERED, self._score(found[name].precision))
            if name in found
            else Vote("", Status.NOT_FOUND)
            for name in attributes
        ]

    def _score(self, precision: float) -> float | None:
        return rounded(math.log(precision)) if self._options.scores else None

    def close(self) -> None:
        """Do nothing; there is nothing to release."""


def add_votes(table: VotesTable, settings: RuntimeSettings[CatalogueOptions]) -> VotesTable:
    """Add the votes of a catalogue member to a votes table, without a server.

    A product of the table does not count for its own votes: neither its text nor, where the catalogue knows
    its id, another text under that id.

    Raises:
        VotesError: The table has votes of the member already, or a cell without a title.
        RuntimeConfigError: The file of the products cannot be used.
    """
    if settings.member in table.members:
        raise VotesError(f"there are votes of {settings.member!r} already; give the member another name")
    runtime = CatalogueRuntime(settings)
    ids = {cell.product for cell in table.cells}
    texts: dict[str, list[str]] = {}
    for product in read_products(settings.root / settings.options.products):
        if product.product in ids:
            texts.setdefault(product.product, []).append(product.text)
    cells = []
    for cell in table.cells:
        if not cell.title.strip():
            raise VotesError(f"product {cell.product!r} has no title, which values are looked up in")
        (vote,) = runtime.look_up(cell.title, [cell.attribute], texts.get(cell.product, ()))
        scores = cell.scores or (None,) * len(cell.values)
        values = (*cell.values, vote.value or None)
        cells.append(replace(cell, values=values, scores=known_scores((*scores, vote.score))))
    return build_table([*table.members, settings.member], cells)

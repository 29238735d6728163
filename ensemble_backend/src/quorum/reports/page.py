# SPDX-License-Identifier: Apache-2.0
"""Render a report as one self-contained HTML page: the shared style, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from quorum.reports import figures
from quorum.reports.palette import variables
from quorum_contract.errors import QuorumError


class ReportError(QuorumError, RuntimeError):
    """A report needs a library that is not installed."""

    code = "REPORT_NOT_POSSIBLE"


def render(template: str, **content: Any) -> str:
    """Render a Jinja template that extends ``page.html.j2`` as an HTML page.

    All text is escaped, charts (:mod:`quorum.reports.charts`) are not. Templates find the macros of
    ``parts.html.j2``, the functions of :mod:`quorum.reports.figures` as ``f``, and ``version``.

    Args:
        template: Source of the template; its blocks are ``title``, ``lead``, ``content`` and ``footer``.
        content: Variables of the template.

    Raises:
        ReportError: Jinja is not installed.
    """
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        raise ReportError("the report needs jinja2: pip install 'quorum[deploy]'") from error
    from quorum import __version__

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_source),
    )
    shared: Mapping[str, Any] = {
        "style": markupsafe.Markup(variables() + _source("style.css")),  # noqa: S704  (our own file)
        "f": figures,
        "version": __version__,
    }
    environment.globals.update(shared)
    return environment.from_string(template).render(**content)


def _source(name: str) -> str:
    return resources.files("quorum.reports").joinpath(name).read_text(encoding="utf-8")

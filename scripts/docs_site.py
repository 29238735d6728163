# SPDX-License-Identifier: Apache-2.0
"""Collect the pages of the documentation site, for MkDocs (``hooks`` in mkdocs.yml).

Pages lie on the site as in the repository, so links are right in both: every page in the navigation, every
page under docs/, and every file that one of them links to. The references are written from the code.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import docs_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^(\s*)(`{3,}|~{3,}).*?^\s*\2`*\s*$", re.S | re.M)
ADRS = "docs/adr/index.md"
PREFIX = "docs/"


def title_of(path: Path) -> str:
    """The first heading of a page."""
    return path.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")


def guides_left_out(nav: Any) -> list[str]:
    """Guides that the navigation does not name."""
    named = set(named_pages(nav))
    found = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs" / "guides").glob("*.md"))]
    return [page for page in found if page not in named]


def named_pages(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from named_pages(part)


def adr_pages() -> list[Path]:
    """The decision records, by number."""
    return sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


def adr_index() -> str:
    """The list of decision records."""
    lines = [f"- [{title_of(path)}]({path.name})" for path in adr_pages()]
    return "# Decisions\n\nOne page each: the decision, why, and what else was considered.\n\n" + "\n".join(
        lines
    )


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation."""
    config.watch += [str(ROOT / name) for name in ("README.md", "docs", "ensemble_backend", "client")]
    for section in config.nav or ():
        if "Guides" in section and (more := guides_left_out(config.nav)):
            section["Guides"].append({"More guides": more})
        if "How it works" in section:
            records = [path.relative_to(ROOT).as_posix() for path in adr_pages()]
            section["How it works"] = [
                {"Decisions": [ADRS, *records]} if page == ADRS else page for page in section["How it works"]
            ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the pages where they lie, with all files that they link to."""
    written = {**docs_reference.pages(), ADRS: adr_index()}
    named = set(named_pages(config.nav))
    shown = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    waiting, found = sorted(named | shown | {"docs/site.css"}), {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name in written:
            file = File.generated(config, name, content=written[name])
        else:
            file = File(name, str(ROOT), config.site_dir, config.use_directory_urls)
        file.dest_uri = file.dest_uri.removeprefix(PREFIX)
        if name not in named and file.is_documentation_page():
            file.inclusion = InclusionLevel.NOT_IN_NAV
        found[name] = file
        if name.endswith(".md"):
            text = written.get(name) or (ROOT / name).read_text("utf-8")
            waiting += [target for _, target in targets(name, text) if (ROOT / target).is_file()]
    schema = File.generated(config, "docs/deploy.schema.json", content=docs_reference.schema_text())
    schema.dest_uri = "deploy.schema.json"
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*of_theme, *found.values(), schema])


def targets(page: str, text: str) -> Iterator[tuple[str, str]]:
    """Each link of a page's text to a file of the repository, as written and as a path from the root."""
    for found in LINK.finditer(FENCE.sub("", text)):
        if ":" not in found[2]:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), found[2]))
            yield found[2], index_of(path)


def index_of(path: str) -> str:
    """The page of a folder, as hosts of repositories show it; other paths as they are."""
    if path == posixpath.dirname(ADRS):
        return ADRS
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to folders at their pages."""
    for written, target in set(targets(page.file.src_uri, markdown)):
        if not Path(written).suffix:
            new = posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")
            markdown = re.sub(rf"\]\({re.escape(written)}(?=[#)])", f"]({new}", markdown)
    return markdown

"""Hooks of the documentation site: pages made from files in the repository's root, and links that leave docs/.

README.md is the site's first page, ARCHITECTURE.md another one. docs/index.md and its like are placeholders that put
these pages into the navigation.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The page that shows each of these files.
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
# Code comes first, since it may contain text that looks like a link.
CODE_OR_LINK = re.compile(
    r"(?P<code>^[ ]*(?P<fence>```+|~~~+).*?^[ ]*(?P=fence)|`[^`\n]+`)"
    r"|(?P<image>!?)\[(?P<text>(?:[^\[\]`]|`[^`]*`)*)\]\((?P<target>[^()\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


def page_target(target: str, source: str, page: str) -> str | None:
    """Return the target of a link of `source` on the page `page`; None if the site has no such page.

    Args:
        target: The link's target in the file.
        source: The file's path in the repository.
        page: The page's path in docs/.
    """
    if re.match(r"[a-z][a-z0-9+.-]*:|#|/", target):
        return target
    path, hash_sign, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if path in PAGES:
        path = PAGES[path]
    elif path.startswith("docs/"):
        path = path.removeprefix("docs/")
    else:
        return None
    return posixpath.relpath(path, posixpath.dirname(page) or ".") + hash_sign + anchor


def with_page_links(markdown: str, source: str, page: str) -> str:
    """Return the text with all links pointing to pages; a link to a file without a page becomes plain text."""

    def replaced(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        target = page_target(match["target"], source, page)
        return match["text"] if target is None else f"{match['image']}[{match['text']}]({target})"

    return CODE_OR_LINK.sub(replaced, markdown)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page; the site generator calls this before it renders HTML."""
    uri = page.file.src_uri
    source = SOURCES.get(uri)
    if source is not None:
        markdown = (ROOT / source).read_text(encoding="utf-8")
    return with_page_links(markdown, source or f"docs/{uri}", uri)

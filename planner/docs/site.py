"""The site: every page as a file of HTML that needs nothing from anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from planner.docs.pages import FOLDER, PAGES, Page, body
from planner.version import HOME, VERSION

THEME = FOLDER / "theme"
_GENERATOR = '<meta name="generator" content="offload-planner'
_TOC = 40
"""Headings of the second level that a page lists at its side."""


@dataclass(frozen=True, slots=True)
class Made:
    """A page as HTML; ``heads``: anchors and titles of its sections; ``links``: what it links to."""

    page: Page
    html: str
    heads: tuple[tuple[str, str], ...]
    anchors: frozenset[str]
    links: tuple[str, ...]


def build(out: Path) -> list[Path]:
    """Writes the site into ``out``, which is made, and returns its files. Raises OSError."""
    made = [rendered(page) for page in PAGES]
    environment = Environment(
        loader=FileSystemLoader(THEME), undefined=StrictUndefined, autoescape=select_autoescape(default=True)
    )
    template = environment.get_template("page.html.j2")
    sections = [(title, list(pages)) for title, pages in groupby(PAGES, lambda page: page.section)]
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        f"{one.page.name}.html": template.render(made=one, sections=sections, version=VERSION, home=HOME)
        for one in made
    }
    texts["style.css"] = _style()
    for name, text in texts.items():
        (out / name).write_text(text + "\n", encoding="utf-8")
    return [out / name for name in texts]


def foreign(out: Path) -> bool:
    """Whether a folder has a site in it that ``build`` did not write."""
    index = out / "index.html"
    return index.exists() and _GENERATOR not in index.read_text(encoding="utf-8", errors="replace")


def broken() -> list[str]:
    """Links inside the documentation that lead nowhere: ``start.md: recipes.md#no-such``."""
    made = {f"{page.name}.md": rendered(page) for page in PAGES}
    return [
        f"{name}: {link}"
        for name, one in made.items()
        for link in one.links
        if not re.match(r"[a-z]+:", link) and not _leads(link, name, made)
    ]


def _leads(link: str, name: str, made: dict[str, Made]) -> bool:
    page, _, anchor = link.partition("#")
    there = made.get(page or name)
    return there is not None and (not anchor or anchor in there.anchors)


def rendered(page: Page) -> Made:
    """A page as HTML, its links led to the other pages of the site."""
    markdown = MarkdownIt("commonmark", {"highlight": _coloured, "html": False}).enable("table")
    anchors_plugin(markdown, max_level=4, permalink=True, permalinkSymbol="#", permalinkBefore=False)
    tokens = markdown.parse(body(page.text()))
    links = tuple(_led(tokens))
    heads = [*_heads(tokens)]
    second = [(anchor, title) for level, anchor, title in heads if level == "h2"]
    return Made(
        page=page,
        html=markdown.renderer.render(tokens, markdown.options, {}),
        heads=tuple(second[:_TOC]),
        anchors=frozenset(anchor for _, anchor, _ in heads),
        links=links,
    )


def _heads(tokens: list[Token]) -> Iterator[tuple[str, str, str]]:
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            children = tokens[at + 1].children or []
            words = "".join(c.content for c in children if c.type in ("text", "code_inline"))
            yield token.tag, str(token.attrs["id"]), words.removesuffix("#").strip()


def _led(tokens: list[Token]) -> Iterator[str]:
    """Links as they are written; each is led to the page's file."""
    for token in tokens:
        for child in token.children or []:
            if child.type == "link_open" and child.attrs.get("class") != "header-anchor":
                link = str(child.attrs["href"])
                yield link
                child.attrs["href"] = re.sub(r"^([\w-]+)\.md(#|$)", r"\1.html\2", link)


def _coloured(text: str, kind: str, attributes: str) -> str:
    """A block of code; what stands behind its kind is the name of the file that it is."""
    try:
        inner = highlight(text, get_lexer_by_name(kind or "text"), HtmlFormatter(nowrap=True))
    except ClassNotFound:
        inner = highlight(text, get_lexer_by_name("text"), HtmlFormatter(nowrap=True))
    caption = f'<div class="file">{attributes}</div>' if attributes else ""
    return f'<pre tabindex="0">{caption}<code>{inner}</code></pre>'


def _style() -> str:
    def rules(style: str) -> Any:
        return HtmlFormatter(style=style, nobackground=True).get_style_defs("pre code")

    dark = rules("github-dark")
    own = (THEME / "style.css").read_text(encoding="utf-8")
    return f"{own}\n{rules('default')}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"

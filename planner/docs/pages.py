"""Every page, in the order in which the site lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from planner.docs import api, codes, commands, language

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Page:
    """``text``: Markdown, which begins with its title; ``section``: under what it is listed."""

    name: str
    section: str
    text: Callable[[], str]

    @property
    def title(self) -> str:
        """The first heading."""
        return next(line for line in body(self.text()).splitlines() if line.startswith("# "))[2:]


def body(text: str) -> str:
    """A page without the front matter that the skill file begins with."""
    return text.split("\n---\n", 1)[1].lstrip() if text.startswith("---\n") else text


def _written(name: str, section: str) -> Page:
    return Page(name, section, lambda: (FOLDER / f"{name}.md").read_text(encoding="utf-8"))


PAGES = (
    _written("index", "Begin"),
    _written("start", "Begin"),
    _written("recipes", "Begin"),
    _written("cookbook", "Begin"),
    _written("ci", "At home"),
    _written("serving", "At home"),
    _written("cards", "At home"),
    _written("editor", "At home"),
    _written("hub", "At home"),
    _written("skill", "At home"),
    Page("language", "Reference", language.page),
    Page("codes", "Reference", codes.page),
    Page("commands", "Reference", commands.page),
    Page("api", "Reference", api.page),
    _written("changelog", "Reference"),
)


def page(name: str) -> Page | None:
    """The page of this name, with or without ``.md``."""
    return next((one for one in PAGES if one.name == name.removesuffix(".md")), None)

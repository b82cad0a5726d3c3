"""What a snippet has said so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table import p8_tools as codes
from planner.source.text import Span
from planner.target.model import Target
from planner.translation.script.values import Act, Component
from planner.translation.tools.kinds import shown
from planner.translation.tools.model import Line, Tool, Values
from planner.translation.tools.parts import modules


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A statement that says where weights lie: those of a component, as ``line`` has it, or the pipeline's,
    by ``tool``, which is None for ``.to(device)``. ``only``: the components that were handed over."""

    name: str
    span: Span
    tool: Tool | None = None
    component: str = ""
    line: Line | None = None
    values: Values = field(default_factory=dict)
    device: str = ""
    places: Mapping[str, Span] = field(default_factory=dict)
    only: frozenset[str] | None = None

    @property
    def what(self) -> str:
        """In a message."""
        return f'{self.name} of "{self.component}"' if self.component else self.name

    @property
    def kind(self) -> str:
        """What made it: a tool's name, or ``to``."""
        return self.tool.name if self.tool is not None else "to"


@dataclass(kw_only=True)
class Sheet:
    """``pipeline``: keys of the plan's ``pipeline``; ``dtypes``: of components that were loaded or cast by
    themselves; ``absent``: components that the snippet sets to None; ``options``: ``tiling`` and
    ``slicing`` by component; ``classes``: the pipeline classes that
    it names, and whether one is ``loaded`` already; ``apart``: loaded models that are no component yet."""

    target: Target
    found: list[Diagnostic] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    options: dict[str, dict[str, bool]] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    pipeline: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    dtypes: dict[str, tuple[str, Span]] = field(default_factory=dict)
    loras: list[dict[str, Any]] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    classes: frozenset[str] = frozenset()
    loaded: bool = False
    apart: list[Act] = field(default_factory=list)

    def say(self, code: Code, message: str, span: Span, hint: str = "") -> None:
        """A finding, once a place."""
        made = finding(code, message, span=span, hint=hint)
        if made not in self.found:
            self.found.append(made)

    def keep(self, message: str, span: Span) -> None:
        """What was read, and where it stands in the plan."""
        self.say(codes.CARRIED_OVER, message, span)

    def lose(self, message: str, span: Span, hint: str = "") -> None:
        """What the plan cannot say, of the pipeline or a component."""
        self.say(codes.STATEMENT_LEFT_OUT, message, span, hint)

    def aside(self, message: str, span: Span) -> None:
        """What is not about where weights lie; one finding a line."""
        here = (span.line, codes.OTHER_FEATURE)
        if here not in {(d.span.line, d.code) for d in self.found if d.span is not None}:
            self.say(codes.OTHER_FEATURE, message, span)

    def has(self, component: Component | str, span: Span) -> bool:
        """Whether the pipeline has such a component with weights; else that is said."""
        name = component if isinstance(component, str) else component.name
        if name in modules(self.target):
            return True
        cls = self.target.cls
        what = "has no weights" if name in self.target.components else f'is no component of "{cls}"'
        hint = did_you_mean(name, self.target.modules)
        self.say(codes.NO_SUCH_COMPONENT, f"{shown(name)} {what}: left out", span, hint)
        return False

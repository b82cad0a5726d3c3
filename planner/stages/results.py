"""What checking and compiling a plan give back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cards.data import CardData
from planner.diagnostics.diagnostic import Diagnostic, Severity
from planner.graph.model import Graph
from planner.lock.content import content_of
from planner.lock.model import Lock
from planner.models.match import Shipped
from planner.plan.model import Plan
from planner.predict.call import forecast
from planner.predict.forecast import Forecast
from planner.predict.start import Start, start
from planner.schedule.card import Card
from planner.schedule.model import Schedule
from planner.schedule.timeline import Row, timeline
from planner.schedule.write import to_json
from planner.source.text import SourceText
from planner.target.model import Target

if TYPE_CHECKING:
    from planner.predict.profile import CallProfile


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What is wrong with a plan. True when nothing is."""

    name: str
    diagnostics: tuple[Diagnostic, ...]
    sources: tuple[SourceText, ...] = ()
    plan: Plan | None = None

    @property
    def ok(self) -> bool:
        """No errors."""
        return not self.errors

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """What stops the plan."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What should be looked at; ``--strict`` counts them."""
        return self._of(Severity.WARNING)

    @property
    def notes(self) -> tuple[Diagnostic, ...]:
        """What was not checked, and why."""
        return self._of(Severity.NOTE)

    def __bool__(self) -> bool:
        return self.ok

    def _of(self, severity: Severity) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity is severity)


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A plan compiled for a target: ``schedule`` is what will happen, ``timeline`` how it reads;
    ``card``: for which one, None for the plan's own budget; ``commit``: of the hub, that its sizes are of;
    ``call``: for which call its activations were predicted; ``data``: the rates of the card, None where they
    are not known; ``shipped``: what ships of its model, where sizes or the call are that."""

    plan: Plan
    target: Target
    graph: Graph
    schedule: Schedule
    diagnostics: tuple[Diagnostic, ...]
    card: Card | None = None
    commit: str | None = None
    call: CallProfile | None = None
    data: CardData | None = None
    shipped: Shipped | None = None

    @cached_property
    def forecast(self) -> Forecast | None:
        """What the call takes, moment by moment; None where it was not traced, or the card's rates are not
        known."""
        if self.call is None or self.data is None:
            return None
        found, before = forecast(self.graph, self.schedule, self.call, self.data), self.start
        if before is None:
            return found
        return replace(found, load=before.load.seconds, apply=before.apply.seconds)

    @cached_property
    def start(self) -> Start | None:
        """What loading the pipeline and applying the plan take before the first call; None where the card's
        rates are not known."""
        if self.data is None:
            return None
        return start(self.plan, self.target, self.schedule, self.data)

    @cached_property
    def timeline(self) -> tuple[Row, ...]:
        """A row for each component of each stage."""
        return timeline(self.schedule)

    def to_json(self) -> str:
        """The schedule as deterministic JSON (``schemas/schedule.v1.schema.json``)."""
        return to_json(self.schedule)

    def save(self, path: str | Path) -> Path:
        """Writes ``to_json`` to ``path``, whole or not at all, and returns it. Raises OSError."""
        from planner.loading.written import written_text

        text = self.to_json()
        written_text(Path(path), text, replace=True)
        return Path(path)

    def lock(self) -> Lock:
        """What it was compiled from and to (``schemas/lock.v1.schema.json``): ``lock().to_json()`` is the
        file that ``plan compile --lock`` writes beside the plan."""
        predicted = {name: asdict(one) for name, one in self.graph.activations.items()}
        return Lock(
            content_of(
                self.plan,
                self.target,
                self.schedule,
                card=self.card,
                commit=self.commit,
                call=self.call,
                prediction={"activations": predicted} if predicted else None,
            )
        )

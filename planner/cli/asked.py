"""What the command line of ``plan apply`` asks for, and the code that ``--from`` names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.plan.model import Plan
from planner.target import catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line."""

    out: Path | None
    report: Path | None
    plot: Path | None
    trace: Path | None
    force: bool
    calibrate: bool
    simulate: bool
    code: str | None
    catalogues: tuple[Path, ...]
    allow_pickle: bool
    trust_remote_code: bool


@dataclass(slots=True)
class Code:
    """What ``--from`` led to: a class or a function, imported; and ``made``, what the function returned."""

    spec: str
    cls: type | None
    function: Any
    catalogue: tuple[Any, ...]
    made: Any = None

    @classmethod
    def of(cls, asked: Asked) -> Code:
        """Imports what ``--from`` names. Raises PlanError where that is not there."""
        if asked.code is None:
            return cls("", None, None, asked.catalogues)
        from planner.loading.make import code_at

        found = code_at(asked.code)
        if isinstance(found, type):
            return cls(asked.code, found, None, (found, *asked.catalogues))
        return cls(asked.code, None, found, asked.catalogues)

    def shows(self, plan: Plan) -> Any:
        """What the plan is compiled for before its pipeline is loaded. A function is called first where only
        its pipeline says what the class is."""
        if self.function is None or plan.stages is not None or catalogue.find(plan.pipeline.cls) is not None:
            return self.cls
        return self.pipeline()

    def pipeline(self) -> Any:
        """What the function returns, called once."""
        from planner.loading.make import made_by

        if self.made is None:
            self.made = made_by(self.spec, self.function)
        return self.made

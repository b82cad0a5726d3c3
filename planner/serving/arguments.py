"""What a served plan is told: the arguments of ``planner.serve:app``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import yaml

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p9_serve import BAD_SERVE_ARGUMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """``plan``: its file. ``simulate``: on ``sim:0``. ``num_replicas``: pipelines, each with a device of its
    own; None: one for each device that the plan allows. ``max_queued_requests``: that wait, in all.
    ``max_body_bytes``: of a request. ``arguments``: of ``run`` that a request may have, None: all.
    ``set``: as ``--set``."""

    plan: str
    simulate: bool = False
    num_replicas: int | None = None
    max_queued_requests: int = 64
    max_body_bytes: int = 32 << 20
    arguments: tuple[str, ...] | None = None
    set: tuple[str, ...] = ()


NAMES = tuple(field.name for field in fields(Arguments))
LEAST = {"num_replicas": 1, "max_queued_requests": 0, "max_body_bytes": 1}


def read_arguments(given: Mapping[str, Any]) -> Arguments:
    """The arguments as Serve hands them on: texts of a command line, or values of a config file. Raises
    PlanError with all that is wrong (P985)."""
    found: list[Diagnostic] = []
    made = {}
    for name, value in given.items():
        if name not in NAMES:
            said = f'there is no argument "{name}"'
            found.append(finding(BAD_SERVE_ARGUMENT, said, hint=did_you_mean(name, NAMES)))
            continue
        try:
            made[name] = _read(name, value)
        except ValueError as error:
            found.append(finding(BAD_SERVE_ARGUMENT, f'"{name}" takes {error}, found {value!r}'))
    if "plan" not in given:
        found.append(finding(BAD_SERVE_ARGUMENT, "which plan is to be served?", hint="plan=my.plan.yaml"))
    if found:
        raise PlanError(found)
    return Arguments(**made)


def _read(name: str, value: Any) -> Any:
    """Raises ValueError that says what is taken."""
    if name == "plan":
        if isinstance(value, str) and value:
            return value
        raise ValueError("a file")
    if name in ("set", "arguments"):
        if isinstance(value, str):
            value = _yaml(value) if value.startswith("[") else [value]
        if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise ValueError("a list of texts")
    value = _yaml(value) if isinstance(value, str) else value
    if name == "simulate":
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")
    least = LEAST[name]
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ValueError(f"a whole number from {least}")


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None

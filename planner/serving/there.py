"""Is what serving needs installed? Looks without importing it."""

from __future__ import annotations

from importlib.util import find_spec

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_serve import SERVE_MISSING
from planner.loading import packages

NEEDS = ("ray", "starlette", "uvicorn", "fastapi")
"""Of ``ray[serve]``: ``ray`` alone has the package ``ray.serve``, which cannot be imported."""


def require() -> None:
    """Returns where planner.serve can be imported. Raises PlanError: P984, and P901 and P902 for what
    applying a plan needs."""
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        said = f'planner.serve needs Ray Serve, and "{missing[0]}" is not installed'
        raise PlanError([finding(SERVE_MISSING, said, hint="pip install 'offload-planner[apply,serve]'")])
    packages.require()

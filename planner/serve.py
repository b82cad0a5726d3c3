"""``serve run planner.serve:app plan=my.plan.yaml``: a plan behind HTTP, by Ray Serve.

Importing this raises PlanError where Ray Serve (P984) or what applying a plan needs (P901) is not installed.
"""

from __future__ import annotations

from typing import Any

import click

from planner.diagnostics.diagnostic import PlanError
from planner.diagnostics.render import text
from planner.serving.arguments import read_arguments
from planner.serving.there import require

require()

from ray.serve import Application  # noqa: E402

from planner.serving.deployment import application  # noqa: E402


def app(args: dict[str, Any]) -> Application:
    """The application for Ray Serve's ``serve run``, ``serve build`` and config files.

    ``args``: ``plan``, and ``simulate``, ``num_replicas``, ``max_queued_requests``, ``max_body_bytes``,
    ``arguments``, ``set``: see ``planner.serving.arguments.Arguments``. Raises click's ClickException with
    the findings as ``plan validate`` prints them, which ``serve`` shows without a traceback.
    """
    try:
        return application(read_arguments(args))
    except PlanError as error:
        raise click.ClickException("\n" + text(error.diagnostics, error.sources)) from None

"""The command ``plan``: its verbs, its exit codes, and the one place where an error ends.

0   fine
1   the plan is wrong
2   usage
3   our bug
4   the plan is fine, this machine or the run failed
5   it ran, but broke its budget or missed in simulation
130 interrupted
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from planner.cli.terminal import show
from planner.diagnostics.diagnostic import InternalError, PlanError

VERBS = {
    "validate": "planner.cli.validate",
    "compile": "planner.cli.compile",
    "explain": "planner.cli.explain",
    "apply": "planner.cli.apply",
    "schema": "planner.cli.schema",
    "doctor": "planner.cli.doctor",
    "translate": "planner.cli.translate",
    "fit": "planner.cli.later",
    "diff": "planner.cli.later",
}


class _Verbs(click.Group):
    """Verbs are imported when they are called: ``validate`` starts fast and never sees torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        found: click.Command = getattr(import_module(VERBS[name]), f"{name}_command")
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from planner.diagnostics.suggest import did_you_mean

        if args and not args[0].startswith("-") and args[0] not in VERBS:
            ctx.fail(f'no verb "{args[0]}"; {did_you_mean(args[0], VERBS)}')
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="offload-planner", prog_name="plan")
def command() -> None:
    """Offload plans for diffusers pipelines: check, compile and apply one YAML file."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    try:
        done = command.main(list(arguments) if arguments is not None else None, standalone_mode=False)
        return int(done or 0)
    except PlanError as error:
        return show(error.diagnostics, error.sources)
    except click.exceptions.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # `plan explain x | head`: nobody reads on, and that is fine
        return 0
    except Exception as error:
        return _ours(error)


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return 130


def _ours(error: Exception) -> int:
    """A fault of the planner: everything that a report needs, on stderr."""
    from planner import __version__

    traceback.print_exception(error)
    what = str(error) if isinstance(error, InternalError) else f"{type(error).__name__}: {error}"
    print(
        f"\nthis is a fault of offload-planner {__version__}, not of your plan: {what}\n"
        "please report it with the lines above and the plan",
        file=sys.stderr,
    )
    return 3

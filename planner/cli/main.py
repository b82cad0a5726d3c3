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

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from planner.cli.terminal import colour_option, log, show, streams
from planner.cli.verbs import GROUPS, VERBS
from planner.diagnostics.diagnostic import InternalError, PlanError


class _Verbs(click.Group):
    """Verbs are imported when they are called: ``validate`` starts fast and never sees torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        found: click.Command = getattr(import_module(VERBS[name].module), f"{name}_command")
        found.epilog = f"Example: {VERBS[name].example}"
        if not any(parameter.name == "color" for parameter in found.params):
            found.params.append(colour_option())
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from planner.diagnostics.suggest import did_you_mean

        if args and not args[0].startswith("-") and args[0] not in VERBS:
            ctx.fail(f'no verb "{args[0]}"; {did_you_mean(args[0], VERBS)}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, VERBS))
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:<{width}}", verb.does) for name, verb in verbs.items()], col_spacing=2
                )
        with formatter.section("Examples"):
            for verb in VERBS.values():
                formatter.write(f"{'':>{formatter.current_indent}}{verb.example}\n")


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="offload-planner", prog_name="plan")
def command() -> None:
    """Offload plans for diffusers pipelines: check, compile and apply one YAML file."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    with streams():
        try:
            code = _run(arguments)
            if not sys.stdout.closed:
                sys.stdout.flush()
        except BrokenPipeError:  # `plan explain x | head`: nobody reads on, and that is fine
            code = 0
            _discard_output()
        except OSError as error:
            log(f"cannot write: {error.strerror}")
            code = 4
            _discard_output()
        return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        done = command.main(
            list(arguments) if arguments is not None else None, prog_name="plan", standalone_mode=False
        )
        return int(done or 0)
    except PlanError as error:
        return show(error.diagnostics, error.sources)
    except (click.exceptions.Abort, KeyboardInterrupt):
        log("interrupted")
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        return _usage(error)
    except Exception as error:
        if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno in _FULL):
            raise
        return _ours(error)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _discard_output() -> None:
    """What is left of stdout goes nowhere: Python flushes it once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: click.ClickException) -> int:
    """As click says it; a word of the command line may hold anything."""
    context = getattr(error, "ctx", None)
    if context is not None:
        print(context.get_usage(), file=sys.stderr)
        log(f"Try '{context.command_path} --help' for help.\n".rstrip())
    log(f"Error: {error.format_message()}")
    return error.exit_code


def _ours(error: Exception) -> int:
    """A fault of the planner: everything that a report needs, on stderr."""
    from planner import __version__

    for line in "".join(traceback.format_exception(error)).splitlines():
        log(line)
    what = str(error) if isinstance(error, InternalError) else f"{type(error).__name__}: {error}"
    log("")
    log(f"this is a fault of offload-planner {__version__}, not of your plan: {what}")
    log("please report it with the lines above and the plan")
    return 3


if __name__ == "__main__":
    main()

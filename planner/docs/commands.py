"""The page of commands, from the command's own help."""

from __future__ import annotations

from collections.abc import Iterator

import click

from planner.cli.main import __doc__ as EXITS
from planner.cli.main import command
from planner.cli.verbs import GROUPS, Verb
from planner.docs.markdown import fence, joined

WIDTH = 96


def page() -> str:
    """Each verb with its options and an example, by what people do."""
    assert EXITS is not None
    return joined(
        "# Commands",
        "What `plan --help` and `plan VERB --help` print.",
        *(
            part
            for title, verbs in GROUPS.items()
            for part in (
                f"## {title}",
                *(piece for name, verb in verbs.items() for piece in _verb(name, verb)),
            )
        ),
        "## Exit codes",
        fence(EXITS.split("\n\n", 1)[1]),
    )


def _verb(name: str, verb: Verb) -> Iterator[str]:
    with click.Context(command, info_name="plan", terminal_width=WIDTH, max_content_width=WIDTH) as above:
        found = command.get_command(above, name)
        assert found is not None
        with click.Context(found, info_name=name, parent=above, terminal_width=WIDTH) as context:
            shown = found.get_help(context)
    yield f"### plan {name}"
    yield verb.does
    yield fence(verb.example, "sh")
    yield fence(shown)

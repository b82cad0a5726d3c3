"""Takes a plan off a pipeline."""

from __future__ import annotations

from planner.session.applied import Applied


def remove(applied: Applied) -> None:
    """The pipeline is as it was found. Twice is once, and goes on where it was interrupted. Inside of a call
    of the pipeline it is done when that is over, and another thread waits for it."""
    state = applied.state
    state.between_calls(state.entered, _remove_now, applied)


def remove_gone(applied: Applied) -> None:
    """The pipeline was deleted, at any moment and in any thread: its plan goes now, or with the next that
    enters."""
    applied.state.closing.append(applied.remove)
    applied.state.recovered()


def _remove_now(applied: Applied) -> None:
    state = applied.state
    if state.in_scope(applied):
        applied.removing = True
    elif applied in state.residency.applied or applied.components or applied.undo:
        state.closing.append(applied.remove)
        state.finish()

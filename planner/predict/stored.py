"""A profile as JSON and back: the same bytes for the same profile. No torch."""

from __future__ import annotations

import json
from typing import Any

from planner.predict.profile import CallProfile, Operation, Section, Turn, UseProfile, Weights

FORM = 9
"""Raised when the form changes, so that none of before is read as one of now."""


class FormError(ValueError):
    """Text that is no profile of this form."""


def to_json(profile: CallProfile) -> str:
    """One line of JSON."""
    return json.dumps(_call(profile), separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"


def from_json(text: str) -> CallProfile:
    """What ``to_json`` wrote. Raises FormError for anything else."""
    try:
        said = json.loads(text)
        if said["form"] != FORM:
            raise FormError(f"form {said['form']}, expected {FORM}")
        glue = [tuple(events) for events in said["glue"]]
        return CallProfile(
            pipeline=said["pipeline"],
            arguments=said["arguments"],
            kernels=said["kernels"],
            versions=said["versions"],
            steps=said["steps"],
            uses=tuple(map(_read_use, said["uses"])),
            turns=tuple(Turn(use, held, glue[at]) for use, held, at in said["turns"]),
            weights={name: _read_weights(one) for name, one in said["weights"].items()},
            workspace=said["workspace"],
            notes=tuple(said["notes"]),
        )
    except FormError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise FormError(f"no profile: {type(error).__name__}: {error}") from error


def _call(profile: CallProfile) -> dict[str, Any]:
    glue = {events: at for at, events in enumerate(dict.fromkeys(turn.glue for turn in profile.turns))}
    return {
        "form": FORM,
        "pipeline": profile.pipeline,
        "arguments": dict(profile.arguments),
        "kernels": profile.kernels,
        "versions": dict(profile.versions),
        "steps": profile.steps,
        "uses": [_use(use) for use in profile.uses],
        "turns": [[turn.use, turn.held, glue[turn.glue]] for turn in profile.turns],
        "glue": [[*events] for events in glue],
        "weights": {name: _weights(one) for name, one in profile.weights.items()},
        "workspace": profile.workspace,
        "notes": list(profile.notes),
    }


def _use(use: UseProfile) -> dict[str, Any]:
    return {
        "component": use.component,
        "entry": use.entry,
        "signature": use.signature,
        "inputs": use.inputs,
        "output": use.output,
        "room": use.room,
        "events": list(use.events),
        "scratch": sorted(use.scratch),
        "operations": [[o.kind, o.dtype, o.flops, o.bytes, list(o.shape)] for o in use.operations],
        "sections": [[s.block, [n for pair in s.work for n in pair]] for s in use.sections],
        "notes": list(use.notes),
        **({} if use.weights is None else {"weights": _weights(use.weights)}),
    }


def _weights(weights: Weights) -> list[Any]:
    return [weights.fixed, [*weights.tensors], *map(list, weights.blocks)]


def _read_use(said: Any) -> UseProfile:
    return UseProfile(
        component=said["component"],
        entry=said["entry"],
        signature=said["signature"],
        inputs=said["inputs"],
        output=said["output"],
        room=said["room"],
        events=tuple(said["events"]),
        scratch=frozenset(said["scratch"]),
        operations=tuple(Operation(k, d, f, b, tuple(s)) for k, d, f, b, s in said["operations"]),
        sections=tuple(
            Section(block, tuple(zip(work[::2], work[1::2], strict=True))) for block, work in said["sections"]
        ),
        notes=tuple(said["notes"]),
        weights=_read_weights(said["weights"]) if "weights" in said else None,
    )


def _read_weights(said: Any) -> Weights:
    fixed, tensors, *blocks = said
    named = tuple((path, nbytes) for path, nbytes in blocks)
    return Weights(fixed=fixed, blocks=named, tensors=tuple(tensors))

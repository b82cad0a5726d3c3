"""``trace``: a pipeline and a call's arguments in, a profile of the call out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from planner.cards.kernels import Kernels
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import CALL_NOT_TRACED
from planner.loading.lacking import brief, lacking
from planner.predict.profile import CallProfile

if TYPE_CHECKING:
    from planner.tracing.forms import Form

PACKAGES = ("torch", "diffusers", "transformers")


def trace(
    pipe: Any,
    arguments: Mapping[str, Any],
    kernels: Kernels,
    *,
    dtypes: Mapping[str, Any] | None = None,
    forms: Mapping[str, Mapping[str, Form]] | None = None,
) -> CallProfile:
    """What ``pipe(**arguments)`` allocates and computes on a card with ``kernels``, use by use.

    ``pipe`` is on the meta device or loaded; nothing of it is changed. ``dtypes``: torch dtypes by component
    in which its weights are taken; others as they are. ``forms``: how weights are stored that are not plain,
    by component and path of their layer. Raises PlanError with what the pipeline raised as its ``__cause__``.
    """
    import torch

    from planner.tracing.mode import Tracer
    from planner.tracing.modules import copied
    from planner.tracing.recorder import Recorder

    tracer = Tracer(kernels)
    try:
        parts = {
            id(part): copied(part, tracer, (dtypes or {}).get(name))
            for name, part in pipe.components.items()
            if isinstance(part, torch.nn.Module)
        }
        hollow = _copy(pipe, parts)

        def called(given: Mapping[str, Any]) -> tuple[Recorder, int]:
            recorder = Recorder(hollow, tracer, forms or {})
            with torch.random.fork_rng(devices=[]), recorder.recording():
                hollow(**given)
                return recorder, recorder.kept()  # what it returned is gone

        try:
            recorder, kept = called(_arguments(pipe, arguments))
        except ValueError as error:  # a few classes (ShapE) make no tensors
            if "output_type" in arguments or "output_type" not in str(error):
                raise
            recorder, kept = called(arguments)
    except Exception as error:
        said = brief(error)
        text = f"the call of {type(pipe).__name__} raised {type(error).__name__}" + (
            f": {said}" if said else ""
        )
        raise PlanError([finding(CALL_NOT_TRACED, text, hint=lacking(type(pipe), arguments))]) from error
    return CallProfile(
        pipeline=type(pipe).__name__,
        arguments={key: plain(value) for key, value in sorted(arguments.items())},
        kernels=kernels.name,
        versions={name: metadata.version(name) for name in PACKAGES},
        steps=_steps(pipe, arguments),
        uses=tuple(recorder.uses),
        turns=tuple(replace(turn, held=turn.held + kept) for turn in recorder.turns),
        weights=recorder.weights,
        workspace=kernels.cublas,
        notes=tuple(sorted({note for use in recorder.uses for note in use.notes})),
    )


def _copy(pipe: Any, parts: dict[int, Any]) -> Any:
    """The pipeline with ``parts`` (by ``id``) in place of its components, in the pipelines that it is
    combined of too. What a call changes (a scheduler's steps) is not the user's."""
    from diffusers import DiffusionPipeline

    made = copy.copy(pipe)
    for name, value in list(vars(pipe).items()):
        if id(value) not in parts:
            if isinstance(value, DiffusionPipeline):
                parts[id(value)] = _copy(value, parts)
            elif "Scheduler" in type(value).__name__:
                parts[id(value)] = copy.deepcopy(value)
            else:
                continue
        vars(made)[name] = parts[id(value)]
    made.set_progress_bar_config(disable=True)
    return made


def _arguments(pipe: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Images stay tensors: making files of them is no work of the card's."""
    taken = inspect.signature(type(pipe).__call__).parameters
    more = {"output_type": "pt"} if "output_type" in taken else {}
    return {**more, **arguments}


def _steps(pipe: Any, arguments: Mapping[str, Any]) -> int:
    said = arguments.get("num_inference_steps")
    if said is None:
        parameter = inspect.signature(type(pipe).__call__).parameters.get("num_inference_steps")
        said = None if parameter is None or parameter.default is parameter.empty else parameter.default
    return said if isinstance(said, int) else 1


def plain(value: Any) -> object:
    """As far as it decides shapes, in words that JSON has."""
    if isinstance(value, (int, float, str, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if (shape := getattr(value, "shape", None)) is not None:
        return f"{type(value).__name__}{tuple(shape)}"
    if (size := getattr(value, "size", None)) is not None and not callable(size):
        return f"{type(value).__name__}{tuple(size)}"
    return type(value).__name__

"""A plan's ``run`` against the arguments of its pipeline's call, before any weight is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from math import prod
from types import MappingProxyType
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, Severity, finding
from planner.diagnostics.suggest import did_you_mean, nearest
from planner.diagnostics.table.p9_machine import BAD_ARGUMENT, MISSING_ARGUMENT, UNKNOWN_ARGUMENT
from planner.document.node import escaped
from planner.plan.model import Plan
from planner.target.call import Argument, Call, Form

SEED = "seed"
LARGEST_SEED = 2**63 - 1
IMAGES = frozenset(
    {
        *("image", "images", "mask", "mask_image", "control_image", "control_mask", "controls"),
        *("ip_adapter_image", "negative_ip_adapter_image", "last_image", "original_image", "cond_image"),
        *("image_reference", "reference_image", "reference_images", "ref_image", "example_image"),
        *("conditioning_frames", "condtioning_image", "input_images", "text_images"),
        *("gligen_images", "gligen_inpaint_image"),
    }
)
"""Arguments that take PIL images, of all pipeline classes of diffusers 0.42.1 (its spelling)."""
VIDEOS = frozenset(
    {
        *("video", "control_video", "mask_video", "background_video", "face_video", "pose_video"),
        "control_camera_video",
    }
)
"""Arguments that take a list of PIL images, one a frame."""
GIVEN = frozenset({"generator", "callback_on_step_end", "callback", "return_dict"})
"""Arguments that no plan can write: a generator comes from the seed, functions from a script."""
CALLED = {
    **dict.fromkeys(("steps", "num_steps", "inference_steps", "sampling_steps"), "num_inference_steps"),
    **dict.fromkeys(("cfg", "cfg_scale", "guidance", "scale"), "guidance_scale"),
    **dict.fromkeys(("frames", "n_frames", "length"), "num_frames"),
    **dict.fromkeys(("n", "num_images", "batch_size", "batch"), "num_images_per_prompt"),
    **dict.fromkeys(("negative", "neg_prompt", "n_prompt"), "negative_prompt"),
    "denoise": "strength",
    "denoising_strength": "strength",
    "w": "width",
    "h": "height",
}
"""What other tools call diffusers' arguments."""
COUNTS = re.compile(
    r"(\w+_)?num_inference_steps|(\w+_)?height|(\w+_)?width|num_frames|num_\w+_per_prompt|max_sequence_length"
)
"""Arguments of which there is no less than one, wherever their default says no other."""
_NEAR = 0.75
"""How like another name one is that may be meant, of names that nothing says are wrong."""
_SLIP = 0.84
"""How like another name one is that ``**kwargs`` would swallow, for it to be a slip of that one."""

_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
    "image": "a path",
}


def count(run: Mapping[str, Any]) -> int:
    """How many images, videos or sounds one call makes, as far as ``run`` says it."""
    prompt = run.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt else 1
    each = (run.get(f"num_{what}_per_prompt", 1) for what in ("images", "videos", "waveforms"))
    return prompts * prod(n for n in each if isinstance(n, int) and n > 0)


def check_run(plan: Plan, call: Call, cls: str, *, called: bool = False) -> list[Diagnostic]:
    """What the call of ``cls`` would not take: names, and values by their form. Raises nothing.

    Images and other files are not looked for. A name that only ``**kwargs`` may take is a warning, unless it
    is a slip of a known one. ``called``: the plan is to be run as it is, so that an empty ``run`` lacks what
    the call needs; else one is for a script that calls the pipeline itself.
    """
    return [*_given(plan, call, cls), *(_missing(plan, call, cls) if plan.run or called else ())]


def _given(plan: Plan, call: Call, cls: str) -> Iterator[Diagnostic]:
    for name, value in plan.run.items():
        pointer = f"/run/{escaped(name)}"
        argument = call.arguments.get(name)
        if name == SEED:
            yield from _seed(plan, value, pointer)
        elif name in GIVEN or (argument is not None and not writable(argument)):
            yield _unwritable(plan, name, value, argument, pointer)
        elif argument is None:
            yield _unknown(plan, call, cls, name, pointer)
        elif value is not None and (wrong := _wrong(name, value, argument)):
            yield finding(
                BAD_ARGUMENT, wrong, span=plan.place(pointer), pointer=pointer, hint=_hint(value, argument)
            )


def _missing(plan: Plan, call: Call, cls: str) -> Iterator[Diagnostic]:
    for name, argument in call.arguments.items():
        if argument.required and name not in plan.run and name not in GIVEN:
            said = f'{cls} needs an argument "{name}", and run has none'
            span = plan.document.key_spans.get("/run", plan.place("/run"))
            yield finding(MISSING_ARGUMENT, said, span=span, pointer="/run")


def writable(argument: Argument) -> bool:
    """Whether a plan can write a value of it at all: no tensor, no function."""
    if argument.name in IMAGES | VIDEOS:
        return True
    return any(_plain(form) for form in argument.forms)


def _plain(form: Form) -> bool:
    if form.kind == "list" and form.items:
        return any(map(_plain, form.items))
    return form.kind not in ("object", "callable")


def _seed(plan: Plan, value: Any, pointer: str) -> Iterator[Diagnostic]:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_SEED:
        said = f'"{SEED}" is a whole number from 0 to {LARGEST_SEED}, found {value!r}'
        yield finding(BAD_ARGUMENT, said, span=plan.place(pointer), pointer=pointer)


def _unwritable(plan: Plan, name: str, value: Any, argument: Argument | None, pointer: str) -> Diagnostic:
    said = f'"{name}" cannot be written in a plan'
    if argument is not None and argument.takes("object", "list") and name not in GIVEN:
        said += ": it takes what only a script can make, such as a tensor"
    hint = "seed makes the generator" if name == "generator" else "planner.apply in a script"
    return finding(BAD_ARGUMENT, said, span=plan.place(pointer), pointer=pointer, hint=hint)


def _unknown(plan: Plan, call: Call, cls: str, name: str, pointer: str) -> Diagnostic:
    known = [n for n, argument in call.arguments.items() if n not in GIVEN and writable(argument)]
    meant = CALLED.get(name, "")
    meant = meant if meant in known else nearest(name, [*known, SEED]) or ""
    span = plan.document.key_spans.get(pointer, plan.place(pointer))
    if not call.more or (meant and (meant == CALLED.get(name) or _slip(name, meant))):
        hint = f'did you mean "{meant}"?' if meant else did_you_mean(name, [*known, SEED])
        said = f'{cls} takes no argument "{name}"'
        return finding(UNKNOWN_ARGUMENT, said, span=span, pointer=pointer, hint=hint)
    said = f'nothing says that {cls} takes an argument "{name}": its **kwargs may pass over it in silence'
    near = meant and SequenceMatcher(None, name, meant).ratio() >= _NEAR
    hint = f'did you mean "{meant}"?' if near else ""
    return finding(UNKNOWN_ARGUMENT, said, span=span, pointer=pointer, hint=hint).at(Severity.WARNING)


def _slip(name: str, known: str) -> bool:
    """``num_inference_step`` and ``hieght``, and not ``prompt_3`` beside ``prompt_2``."""
    if re.sub(r"_?\d+$", "", name) == re.sub(r"_?\d+$", "", known):
        return False
    # Swapped letters count as two; those of a short name make other words of it (boots, boost).
    swapped = len(name) > 5 and sorted(name.lower()) == sorted(known)
    return swapped or SequenceMatcher(None, name, known).ratio() >= _SLIP


def _wrong(name: str, value: Any, argument: Argument) -> str:
    """What is wrong with a value, in words; nothing where it can be given."""
    if name in IMAGES | VIDEOS:
        wrong = next(_no_paths(value), None)
        return "" if wrong is None else f'"{name}" takes a path, found {wrong!r}'
    if not any(_fits(value, form) for form in argument.forms):
        return f'"{name}" takes {told(argument.forms)}, found {_shown(value)}'
    low = isinstance(argument.default, int) and argument.default < 1
    if COUNTS.fullmatch(name) and not low and isinstance(value, int) and value < 1:
        return f'"{name}" is {value}: at least 1'
    return ""


def _no_paths(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _no_paths(part)
    elif not isinstance(value, str) and value is not None:
        yield value


def _fits(value: Any, form: Form) -> bool:
    """Lets through what Python would: a text for one of several, 0 for false, a whole number for another."""
    match value:
        case bool():
            return form.kind in ("bool", "any")
        case int():
            return form.kind in ("int", "float", "bool" if value in (0, 1) else "int", "any")
        case float():
            return form.kind in ("float", "any")
        case str():
            in_list = form.kind == "list" and any(_fits(value, item) for item in form.items)
            return form.kind in ("str", "image", "any") or in_list
        case list():
            if form.kind in ("list", "image"):
                return not form.items or all(
                    part is None or any(_fits(part, item) for item in form.items) for part in value
                )
            return form.kind == "any" or (form.kind == "str" and all(isinstance(p, str) for p in value))
        case dict():
            return form.kind in ("dict", "any")
    return form.kind == "any"


def told(forms: Iterable[Form]) -> str:
    """What a value may be, in words, of what a plan can write."""
    words = [_WORDS[form.kind] for form in forms if form.kind in _WORDS and _plain(form)]
    return " or ".join(dict.fromkeys(words))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    word = "text" if isinstance(value, str) else "a list" if isinstance(value, list) else ""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{word} {text if len(text) <= 40 else text[:37] + '...'}".strip()


def _hint(value: Any, argument: Argument) -> str:
    if isinstance(value, str) and argument.takes("bool") and value.lower() in ("on", "off", "yes", "no"):
        return f"write {'true' if value.lower() in ('on', 'yes') else 'false'}"
    if isinstance(value, (int, float)) and argument.takes("str") and not argument.takes("int", "float"):
        return "quote it, if it is text"
    return ""


def with_run(plan: Plan, run: Mapping[str, Any]) -> Plan:
    """``plan`` with the arguments of another call."""
    return replace(plan, run=MappingProxyType(dict(run)))


def texts_in(value: Any) -> Iterator[str]:
    """All texts in an argument's value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_in(part)

"""What several tools ask of a pipeline: which components it has, and of which kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p8_tools import NO_SUCH_COMPONENT, WITHOUT_EFFECT
from planner.target.model import Target, WalkStage
from planner.target.vae_options import may_have
from planner.translation.tools.kinds import shown
from planner.translation.tools.model import Line
from planner.translation.tools.read import pointer

NONE_STAYS = "1B"
"""``resident`` of a component that streams as a whole: the language has no 0, and no block is so small."""

_DENOISERS = ("transformer", "unet", "dit", "prior", "decoder")


def modules(target: Target) -> tuple[str, ...]:
    """The components that have weights, without those that are None."""
    return tuple(name for name in target.modules if target.components[name].present)


def denoisers(target: Target) -> tuple[str, ...]:
    """What runs every step, by the class's walk where it is known, else by name; no encoder, no decoder."""
    steps = [stage for stage in _stages(target.walk or ()) if stage.loop == "steps"]
    looped = {run.component for stage in steps for run in stage.runs}
    others = {*text_encoders(target), *image_encoders(target), *autoencoders(target)}
    able = [name for name in modules(target) if name not in others]
    return tuple(n for n in able if n in looped) or tuple(n for n in able if n.startswith(_DENOISERS))


def with_options(
    lines: Iterable[Line], settings: Mapping[str, str], target: Target
) -> tuple[tuple[Line, ...], tuple[Diagnostic, ...]]:
    """``lines`` with options (``tiling``, ``slicing``) on for the autoencoders whose class has them, in lines
    of their own where there are none. ``settings``: by option, what says so."""
    said, found = {line.key: line for line in lines}, []
    for option, setting in settings.items():
        able = [name for name in autoencoders(target) if may_have(option, target.components[name].classes)]
        for name in able:
            line = said.get(name, Line(name, {}, ""))
            value = line.value if isinstance(line.value, dict) else {"policy": line.value}
            why = "; ".join(filter(None, (line.why, setting)))
            said[name] = Line(name, {**value, option: "on"}, why)
        if not able:
            what = f'{setting} has no effect: no component of "{target.cls}" has {option}'
            found.append(finding(WITHOUT_EFFECT, what, pointer=pointer(setting)))
    return tuple(said[name] for name in modules(target) if name in said), tuple(found)


def text_encoders(target: Target) -> tuple[str, ...]:
    """``text_encoder``, ``text_encoder_2`` and so on."""
    return tuple(name for name in modules(target) if name.startswith("text_encoder"))


def image_encoders(target: Target) -> tuple[str, ...]:
    """``image_encoder`` and so on."""
    return tuple(name for name in modules(target) if name.startswith("image_encoder"))


def autoencoders(target: Target) -> tuple[str, ...]:
    """``vae``, ``vqvae``, ``video_vae`` and so on."""
    return tuple(name for name in modules(target) if "vae" in name or name == "vqgan")


def walk_line(target: Target, without: Collection[str] = ()) -> Line | None:
    """An order, where the class's own walk is not known: its sequence, after what that leaves out.

    ``without``: what is excluded, and has no place in an order.
    """
    if target.walk is not None:
        return None
    chained = sequence(target)
    rest = [name for name in modules(target) if name not in chained]
    names = [name for name in (*rest, *chained) if name not in without]
    return Line("order", names, "a guess: the class's own walk is not known") if names else None


def sequence(target: Target) -> tuple[str, ...]:
    """The names of the class's sequence that diffusers finds, each once; spaces are not stripped there."""
    present = modules(target)
    return tuple(dict.fromkeys(n for n in (target.sequence or "").split("->") if n in present))


def unknown(named: Iterable[str], target: Target, *path: str) -> Iterator[Diagnostic]:
    """A finding for each name that is no component with weights, at the setting's ``path``."""
    for name in dict.fromkeys(named):
        if name not in target.modules:
            what = "has no weights" if name in target.components else f'is no component of "{target.cls}"'
            yield finding(
                NO_SUCH_COMPONENT,
                f"{shown(name)} {what}: left out",
                pointer=pointer(*path),
                hint=did_you_mean(name, target.modules),
            )


def spelled(names: Iterable[str], target: Target) -> dict[str, str]:
    """Names that are a component's but for case and separators: ``transformer2`` is ``transformer_2``."""
    folded = {_fold(name): name for name in modules(target)}
    meant = {name: folded.get(_fold(name)) for name in names if name not in target.components}
    return {name: component for name, component in meant.items() if component is not None}


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _stages(walk: Iterable[WalkStage]) -> Iterator[WalkStage]:
    for stage in walk:
        yield stage
        yield from _stages(stage.stages)

"""model_index.json: the class of a folder's pipeline, and where each component's class comes from."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.target.causes import Broken
from planner.target.headers import read_json
from planner.target.model import Target
from planner.target.place import INDEX

MODULAR_INDEX = "modular_model_index.json"
_NEEDED = re.compile(r"(text_encoder|tokenizer)(_\d+)?|motion_adapter")
"""Components that classes may be made without, for a call with embeddings, and whose absence fails others."""

PIPELINES = frozenset((
    "ace_step", "allegro", "alt_diffusion", "amused", "animatediff", "anyflow", "audio_diffusion",
    "audioldm", "audioldm2", "aura_flow", "blip_diffusion", "bria", "bria_fibo", "bria_fibo2", "chroma",
    "chronoedit", "cogvideo", "cogview3", "cogview4", "consisid", "consistency_models", "controlnet",
    "controlnet_hunyuandit", "controlnet_sd3", "controlnet_xs", "cosmos", "dance_diffusion", "ddim", "ddpm",
    "deepfloyd_if", "diffusion_gemma", "dit", "dreamlite", "easyanimate", "ernie_image", "flux", "flux2",
    "glm_image", "helios", "hidream_image", "hunyuan_image", "hunyuan_video", "hunyuan_video1_5",
    "hunyuandit", "i2vgen_xl", "ideogram4", "joyimage", "kandinsky", "kandinsky2_2", "kandinsky3",
    "kandinsky5", "kandinsky6", "kolors", "krea2", "latent_consistency_models", "latent_diffusion",
    "latent_diffusion_uncond", "latte", "ledits_pp", "llada2", "longcat_audio_dit", "longcat_image", "ltx",
    "ltx2", "lucy", "lumina", "lumina2", "marigold", "mochi", "motif_video", "musicldm", "nucleusmoe_image",
    "omnigen", "ovis_image", "pag", "paint_by_example", "pia", "pixart_alpha", "pndm", "prx", "qwenimage",
    "qwenimage21", "repaint", "rfd4_proteina", "sana", "sana_video", "sana_wm", "score_sde_ve",
    "semantic_stable_diffusion", "shap_e", "skyreels_v2", "spectrogram_diffusion", "stable_audio",
    "stable_audio_3", "stable_cascade", "stable_diffusion", "stable_diffusion_3",
    "stable_diffusion_attend_and_excite", "stable_diffusion_diffedit", "stable_diffusion_gligen",
    "stable_diffusion_k_diffusion", "stable_diffusion_ldm3d", "stable_diffusion_panorama",
    "stable_diffusion_safe", "stable_diffusion_sag", "stable_diffusion_variants", "stable_diffusion_xl",
    "stable_video_diffusion", "stochastic_karras_ve", "t2i_adapter", "text_to_video_synthesis", "unclip",
    "unidiffuser", "versatile_diffusion", "visualcloze", "vq_diffusion", "wan", "wuerstchen", "z_image",
))  # fmt: skip
"""Folders of ``diffusers.pipelines``, of 0.42.1 and before: some pipelines bring models of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """``entries``: library and class by component, both None for one that is None; ``others``: what else
    stands there by name, which are settings of the pipeline."""

    cls: str
    entries: Mapping[str, tuple[str, str] | tuple[None, None]]
    others: Mapping[str, Any] = field(default_factory=dict)

    def lacks(self, known: Target, own: Target | None, given: Collection[str]) -> tuple[str, ...]:
        """What class ``known`` must have, and neither the folder of an ``own`` pipeline nor ``given`` has.

        diffusers 0.42.1 (pipeline_utils.py:1090) refuses to load a pipeline without them. A text encoder that
        may be None is left out by a folder of the same class; the folder of a class that knows of none has
        nothing in its place, and the call fails.
        """
        return tuple(
            name
            for name, info in known.components.items()
            if name not in given
            and self.entries.get(name, (None,))[0] is None
            and (
                not info.optional
                or (own is not None and name not in own.components and _NEEDED.fullmatch(name))
            )
        )

    def foreign(self, wanted: Target, own: Target | None, given: Collection[str]) -> dict[str, str]:
        """The folder's models of classes that ``wanted`` does not take, by component; text encoders that it
        does not know of are of another model's prompt."""
        found = {
            name: cls
            for name, (_, cls) in self.entries.items()
            if cls is not None and name.startswith("text_encoder_") and name not in wanted.components
        }
        found = found if self.cls != wanted.cls else {}
        for name, info in wanted.components.items():
            cls = self.entries.get(name, (None, None))[1]
            if cls is None or not info.module or name in given or cls in info.classes or not info.classes:
                continue
            if own is None or name not in own.components or own.components[name].classes != info.classes:
                found[name] = cls
        return found

    def suits(self, wanted: Target, own: Target | None, given: Collection[str]) -> bool:
        """Whether the folder of an ``own`` pipeline can be loaded as a ``wanted`` one.

        It has all that is needed, and its models are of the classes that the other takes.
        """
        return not self.lacks(wanted, own, given) and not self.foreign(wanted, own, given)


def trusted(library: str) -> bool:
    """Whether a component's class may come from ``library``, as an index names it: diffusers, transformers,
    and the modules of diffusers' own pipelines, which stand by their names alone ("stable_diffusion").
    "" stands for a folder without an index."""
    return library.partition(".")[0] in ("", "diffusers", "transformers") or library in PIPELINES


def read_index(folder: Path) -> Index:
    """The index of ``folder``. Raises Broken."""
    said = read_json(folder / INDEX)
    if not isinstance(said, dict):
        raise Broken(f"{INDEX} is no mapping")
    entries = {name: entry for name, value in said.items() if (entry := _entry(name, value)) is not None}
    others = {name: value for name, value in said.items() if name not in entries}
    return Index(cls=_class_name(said), entries=entries, others=others)


def _class_name(said: Mapping[str, Any]) -> str:
    """``[module, class]`` stands for a class whose code is in the folder."""
    match said.get("_class_name"):
        case str() as name:
            return name
        case [str(), str() as name]:
            return name
    raise Broken(f"{INDEX} names no class")


def _entry(name: str, value: Any) -> tuple[str, str] | tuple[None, None] | None:
    """None for what is no component: a setting of the pipeline, or a name that leads out of the folder."""
    if name.startswith("_") or not name.isidentifier():
        return None
    match value:
        case [str() as library, str() as cls]:
            return library, cls
        case [None, None]:
            return None, None
    return None

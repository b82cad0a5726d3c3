"""Pipelines that need no download: made on first use in the real folder layout, then loaded like any other.

``python -m planner.loading.builtin --sizes`` writes ``planner/target/data/builtins.json``: the bytes of
each component on a device, by dtype, as the compiler reads them where there is no torch.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p3_target import UNKNOWN_BUILTIN
from planner.loading.cache import kept
from planner.source.text import Span

PREFIX = "builtin:"
NAMES = ("tiny-sdxl", "tiny-flux", "tiny-wan")
RECIPE = 2
"""Raised when a recipe changes, so that no folder of before is taken for one of now."""
DTYPES = ("float32", "float16", "bfloat16")


def builtin_folder(name: str, span: Span | None = None) -> Path:
    """The folder of ``builtin:NAME`` in the user's cache, made now if it is not there.

    Raises PlanError for a name that there is not (``span``: where it stands) and for a cache that
    cannot be written.
    """
    if name not in NAMES:
        said = f'no built-in pipeline "{name}"'
        raise PlanError([finding(UNKNOWN_BUILTIN, said, span=span, hint=did_you_mean(name, NAMES))])
    versions = "-".join(metadata.version(p) for p in ("diffusers", "transformers", "torch"))
    return kept(f"builtin/{name}-v{RECIPE}-{versions}", lambda folder: make(name, folder))


def make(name: str, folder: Path) -> None:
    """Writes the pipeline's folder: ``model_index.json``, configs, tokenizers, safetensors."""
    from planner.loading.recipes import RECIPES

    with quiet(), tempfile.TemporaryDirectory() as work:
        RECIPES[name](Path(work)).save_pretrained(folder, safe_serialization=True)


def sizes() -> dict[str, Any]:
    """Class and bytes of each component with weights, for every dtype, measured on the loaded pipeline; and
    the shapes of its tensors by name."""
    import torch
    from diffusers import DiffusionPipeline

    from planner.target.blocks import blocks_of

    found: dict[str, Any] = {}
    for name in NAMES:
        components: dict[str, dict[str, Any]] = {}
        for dtype in DTYPES:
            with quiet():
                pipe = DiffusionPipeline.from_pretrained(
                    builtin_folder(name), **{dtype_argument(): getattr(torch, dtype)}
                )
            for key, component in pipe.components.items():
                if isinstance(component, torch.nn.Module):
                    blocks = blocks_of(component)
                    said = {"fixed": blocks.fixed, "blocks": list(blocks.streamable)}
                    components.setdefault(key, _tensors(component))[dtype] = said
        found[name] = {"class": type(pipe).__name__, "components": components}
    return found


def _tensors(component: Any) -> dict[str, Any]:
    """Shapes of its weights, what is tied once, and bytes of its buffers, which no dtype changes."""
    shapes = {name: list(tensor.shape) for name, tensor in component.named_parameters()}
    return {"tensors": shapes, "buffers": {name: b.nbytes for name, b in component.named_buffers()}}


def to_json(found: dict[str, Any]) -> str:
    """As the file has it."""
    lines = []
    for name, record in found.items():
        parts = [f'   "{key}": {json.dumps(said)}' for key, said in record["components"].items()]
        lines.append(
            f' "{name}": {{"class": "{record["class"]}", "components": {{\n' + ",\n".join(parts) + "}}"
        )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def dtype_argument() -> str:
    """What ``from_pretrained`` calls the dtype: ``dtype``, and ``torch_dtype`` in older versions."""
    from diffusers.pipelines import pipeline_utils

    return "dtype" if hasattr(pipeline_utils, "_resolve_dtype") else "torch_dtype"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and reports of loading a few MB; afterwards as it was."""
    from diffusers.utils import logging as theirs
    from transformers.utils import logging as others

    before = [
        (module, module.get_verbosity(), module.is_progress_bar_enabled()) for module in (theirs, others)
    ]
    try:
        for module, _, _ in before:
            module.set_verbosity_error()
            module.disable_progress_bar()
        yield
    finally:
        for module, verbosity, bar in before:
            module.set_verbosity(verbosity)
            if bar:
                module.enable_progress_bar()


if __name__ == "__main__":
    if sys.argv[1:] != ["--sizes"]:
        sys.exit("usage: python -m planner.loading.builtin --sizes")
    target = Path(__file__).parents[1] / "target" / "data" / "builtins.json"
    target.write_text(to_json(sizes()), encoding="utf-8")
    print(f"wrote {target}")

"""The files of a plan's LoRAs, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_target import BROKEN_FOLDER, NO_SUCH_SOURCE
from planner.plan.model import Lora, Plan
from planner.target.causes import Broken
from planner.target.place import place_of
from planner.target.single import check_pickle, file_tensors


def check_loras(plan: Plan) -> Iterator[Diagnostic]:
    """LoRAs whose path leads nowhere, and files that are none of weights. A hub's id is not asked after."""
    folder = Path(plan.document.sources[0].name).parent
    for number, lora in enumerate(plan.loras):
        pointer = f"/loras/{number}/lora_id"
        span = plan.document.spans.get(pointer, lora.span)
        place = place_of(lora.lora_id, folder, owned=True)
        if place.kind == "nothing":
            said = place.said.replace("the source", "the LoRA", 1)
            yield finding(NO_SUCH_SOURCE, said, span=span, pointer=pointer, hint=place.hint)
            continue
        file = _file(lora, place.path) if place.here else None
        if file is None:
            continue
        if not file.is_file():
            said = f'the LoRA "{lora.lora_id}" has no file "{lora.weight_name}"'
            at = f"/loras/{number}/weight_name"
            yield finding(NO_SUCH_SOURCE, said, span=plan.document.spans.get(at, span), pointer=at)
            continue
        try:
            if file.suffix == ".safetensors":
                file_tensors(file, "float32")
            else:
                check_pickle(file)
        except Broken as broken:
            said = f'the LoRA "{lora.lora_id}": {broken}'
            yield finding(BROKEN_FOLDER, said, span=span, pointer=pointer, hint=broken.mend)


def _file(lora: Lora, path: Path) -> Path | None:
    """The file that is read; None where diffusers looks for one by its usual name."""
    if path.is_file():
        return path
    return path / lora.weight_name if lora.weight_name is not None else None

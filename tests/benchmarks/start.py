"""``python -m tests.benchmarks.start``: what loading a pipeline and applying a plan take, beside what was
predicted.

Pipelines of true size with random weights, from ``tests.benchmarks.cases``, written to files (which the page
cache then has) and loaded from them. A JSON line for each plan: seconds and bytes, predicted (``p``) by the
card and by this machine's own ``host`` (``p_here``, which is measured first: ``host``), and measured (``m``),
of each time.
"""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch

import planner
from planner.api import attach, device_for
from planner.cards.data import CardData, Host
from planner.loading.builtin import builtin_folder
from planner.loading.measure.files import BYTES, host
from planner.loading.pipeline import load_pipeline
from planner.loading.stopwatch import Stopwatch
from planner.plan.model import Plan
from planner.predict.start import Start, start
from planner.session.machine import card_on
from planner.source.text import SourceText

from .cases import cases
from .foresight import filled, hollow, opened
from .measure import _clean

TOKENIZERS = "tiny-flux"
"""The built-in pipeline that has one of CLIP and one of T5: they stand for those of a case."""


@click.command(help=__doc__)
@click.option("--cases", "names", default="flux-dev", help="Names (or their beginnings), with commas.")
@click.option(
    "--configs", default="", help="A file in the form of measured.json, or `models`: those that ship."
)
@click.option(
    "--settings",
    default="idle=release;budget.pinned=1GiB;components.vae=resident",
    help="--set of each plan; `;` between plans.",
)
@click.option("--times", default=2, help="Loads of each pipeline, and applications of each plan.")
@click.option("--card", default="", help="A card's name or file (plan doctor --measure); else by the device.")
@click.option("--device", default="cuda:0")
@click.option("--folder", type=click.Path(path_type=Path), help="Where files are written; a temporary one.")
@click.option("--host-bytes", default=BYTES, help="Bytes by which the host is measured.")
def main(
    names: str,
    configs: str,
    settings: str,
    times: int,
    card: str,
    device: str,
    folder: Path | None,
    host_bytes: int,
) -> None:
    where, data = opened(device, card)
    found = host(where if where.type == "cuda" else torch.device("cpu"), host_bytes)
    for case in cases(names, configs):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            written(case, Path(place), where)
            for line in lines(case, Path(place), settings.split(";"), times, data, found, where):
                print(json.dumps(line), flush=True)


def lines(
    case: dict[str, Any],
    place: Path,
    settings: list[str],
    times: int,
    data: CardData,
    found: dict[str, float] | None,
    where: torch.device,
) -> Any:
    """Of one pipeline: it is loaded ``times`` times, and each plan is applied as often to the last of
    them."""
    loads: list[float] = []
    pipe: Any = None
    for _ in range(times):
        pipe = None
        _clean(where)
        with Stopwatch() as watch:
            pipe = load_pipeline(_plan(case, place, ""))
        loads.append(watch.seconds)
    for said in settings:
        plan, applies = _plan(case, place, said), []
        made: dict[str, Any] = {"case": case["name"], "settings": said, "card": data.name, "host": found}
        predicted = compiled_start(plan, data, where)
        made["p"] = asdict(predicted)
        if found is not None:
            made["p_here"] = asdict(compiled_start(plan, replace(data, host=Host(**found)), where))
        for _ in range(times):
            _clean(where)
            with Stopwatch(where) as watch:
                session, _ = attach(plan, pipe, device_for(where), loaded_by_us=True, data=data)
            applies.append(watch.seconds)
            registered = session.applied.state.residency.pins.nbytes
            session.remove()
        yield {**made, "m": {"load": loads, "apply": applies, "registered": registered}}


def compiled_start(plan: Plan, data: CardData, where: torch.device) -> Start:
    """What is predicted of the files, before they are loaded."""
    found = planner.compile(plan, card=replace(card_on(where), data=data))
    return start(plan, found.target, found.schedule, data)


def written(case: dict[str, Any], place: Path, device: torch.device) -> None:
    """The pipeline in files, in its dtypes; its weights are drawn on ``device``, a component at a time."""
    made = hollow(case)
    others, index = builtin_folder(TOKENIZERS, None), {"_class_name": case["class"]}
    known = json.loads((others / "model_index.json").read_text())
    for name, part in made.pipe.components.items():
        if isinstance(part, torch.nn.Module):
            filled(part, made.dtypes[name], device).save_pretrained(place / name, max_shard_size="100GB")
            part.to("meta")
            gc.collect()
        elif hasattr(part, "save_config"):
            part.save_config(place / name)
        elif hasattr(part, "save_pretrained"):
            part.save_pretrained(place / name)
        elif part is not None:
            like = "tokenizer" if "CLIP" in case["parts"][name]["cls"] else "tokenizer_2"
            shutil.copytree(others / like, place / name)
            index[name] = known[like]
            continue
        if part is not None:
            index[name] = [case["parts"][name]["library"], case["parts"][name]["cls"]]
    (place / "model_index.json").write_text(json.dumps(index))


def _plan(case: dict[str, Any], place: Path, said: str) -> Plan:
    dtypes = {part.get("dtype") for part in case["parts"].values()} - {None}
    where = f"class: {case['class']}, source: {json.dumps(str(place))}, dtype: {min(dtypes)}"
    text = f"version: 1\nname: start\npipeline: {{{where}}}\n"
    return planner.load(
        SourceText(name="start.plan.yaml", text=text), overrides=[*filter(None, said.split(","))]
    )


if __name__ == "__main__":
    main()

"""``python -m tests.benchmarks.throughput``: rows a minute of ``plan batch`` with 1, 2, ... workers.

On CUDA an SDXL-size pipeline with random weights; with ``--sleep`` a tiny one in simulation, each call of
which takes so many seconds more (each writing ``--write`` ones), so that two cores hold many workers. The
rate is taken between the first output of the slowest worker and the last output: start-up and loading are
left out, and told beside it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest's pythonpath
from slowed import CALL, environment, on_path


def saved(folder: Path) -> None:
    """An SDXL-size pipeline with random weights; its words are those of the built-in one."""
    from planner.loading.builtin import builtin_folder

    from .sizes import SIZES

    pipe = SIZES["sdxl"].make(False, torch.device("cuda:0"))
    from transformers import CLIPTokenizer

    for name in ("tokenizer", "tokenizer_2"):
        words = CLIPTokenizer.from_pretrained(builtin_folder("tiny-sdxl") / name, model_max_length=77)
        setattr(pipe, name, words)
        pipe.register_modules(**{name: words})
    pipe.save_pretrained(folder)


@click.command(help=__doc__)
@click.option("--rows", default=48)
@click.option("--workers", multiple=True, type=int, default=[1, 2])
@click.option("--engine", default="local")
@click.option("--steps", default=8)
@click.option("--sleep", type=float, help="Seconds of a call, in simulation.")
@click.option("--write", type=float, default=0.0, help="Seconds that an output takes more, with --sleep.")
@click.option("--set", "settings", multiple=True, help="Of the plan, as plan batch has it.")
def main(
    rows: int,
    workers: list[int],
    engine: str,
    steps: int,
    sleep: float | None,
    write: float,
    settings: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        within = environment(here, sleep, write) if sleep else on_path(here)
        source = {"source": "builtin:tiny-sdxl"} if sleep else {"source": "sdxl", "dtype": "float16"}
        if not sleep:
            start = time.perf_counter()
            saved(here / "sdxl")
            print(json.dumps({"saved": round(time.perf_counter() - start, 1)}), flush=True)
        size = {"height": 64, "width": 64} if sleep else {"height": 1024, "width": 1024}
        plan = {
            "version": 1,
            "pipeline": {"class": "StableDiffusionXLPipeline", **source},
            "run": {"prompt": "a cat", "num_inference_steps": 1 if sleep else steps, "seed": 1, **size},
        }
        (here / "x.plan.yaml").write_text(json.dumps(plan))
        (here / "rows.jsonl").write_text("".join(f'{{"id": "r{n:04}", "seed": {n}}}\n' for n in range(rows)))
        first: dict[str, str] = {}
        for count in workers:
            made = _run(here, count, engine, within, settings)
            first = first or made.pop("digests")
            made["equal"] = made.pop("digests", first) == first
            print(json.dumps({"engine": engine, "workers": count, **made}), flush=True)


def _run(
    here: Path, workers: int, engine: str, within: dict[str, str], settings: list[str]
) -> dict[str, Any]:
    out = here / f"out-{workers}"
    told = [sys.executable, "-m", "planner", "batch", "x.plan.yaml", "--inputs", "rows.jsonl"]
    told += ["--out", str(out), "--workers", str(workers), "--engine", engine]
    told += ["--simulate"] * (CALL in within) + [part for one in settings for part in ("--set", one)]
    start = time.perf_counter()
    ended = subprocess.run(told, cwd=here, env=within, capture_output=True, text=True)
    whole = time.perf_counter() - start
    if ended.returncode:
        return {"failed": ended.stderr[-600:], "digests": {}}
    at = sorted(path.stat().st_mtime for path in out.glob("*.png"))
    between = at[-1] - at[workers - 1]
    return {
        "rows": len(at),
        "seconds": round(whole, 2),
        "a minute": round(60 * (len(at) - workers) / between, 2),
        "digests": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.png")},
    }


if __name__ == "__main__":
    main()

"""``python -m tests.batches.ram``: the host's memory that 1, 2 and 4 workers of a batch take together.

PSS of the driver and its workers (``/proc/PID/smaps_rollup``: a page that n processes map counts 1/n in
each), sampled while a batch runs on the virtual accelerator. Its memory is the host's too: what weights lay
there at a worker's peak is told, and is not there with a real one. The pipeline is Flux's with random weights
in bfloat16, nearly all of them in the transformer. A batch of the built-in tiny pipeline tells what processes
take without.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PLAN = """version: 1
pipeline: {{class: FluxPipeline, source: '{source}', dtype: bfloat16}}
budget: {{vram: {budget}MB}}
components: {{transformer: stream}}
run: {{prompt: a cat, num_inference_steps: 4, height: 64, width: 64, seed: 3}}
"""
MEMORY = "/memfd:offload-plan"


def main() -> int:
    """Prints a line a count of workers; ends where a batch did not make all of its outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=8, help="double ones, and twice as many single ones")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--pipelines", choices=["small", "large"], nargs="*", default=["small", "large"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # short: a socket's path has 107 characters
        size = made(Path(name) / "flux", asked.blocks)
        print(f"weights {size / 1e6:.0f} MB", flush=True)
        for kind in asked.pipelines:
            source, budget = {"small": ("builtin:tiny-flux", 200), "large": ("./flux", 340)}[kind]
            (Path(name) / "x.plan.yaml").write_text(PLAN.format(source=source, budget=budget))
            for workers in asked.workers:
                out = f"{kind}-{workers}"
                most, shared, code = measured(Path(name), out, asked.engine, workers)
                if code:
                    sys.exit((Path(name) / f"{out}.log").read_text())
                said = f"{most / 1e6:.0f} MB at the peak, {shared / 1e6:.0f} of them shared weights"
                said += f"; {on_device(Path(name) / out) / 1e6:.0f} MB of weights on each device"
                print(f"{source} {asked.engine} {workers} workers: {said}", flush=True)
    return 0


def made(folder: Path, blocks: int) -> int:
    """Writes the pipeline and returns the bytes of its weights."""
    import torch
    from diffusers import FluxPipeline, FluxTransformer2DModel

    from planner.loading.builtin import builtin_folder

    pipe = FluxPipeline.from_pretrained(builtin_folder("tiny-flux"))
    config = dict(pipe.transformer.config) | {"num_layers": blocks, "num_single_layers": 2 * blocks}
    config |= {"attention_head_dim": 64, "num_attention_heads": 16, "axes_dims_rope": (16, 24, 24)}
    torch.set_default_dtype(torch.bfloat16)
    pipe.transformer = FluxTransformer2DModel.from_config(config)
    torch.set_default_dtype(torch.float32)
    pipe.to(torch.bfloat16).save_pretrained(folder)
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def measured(folder: Path, out: str, engine: str, workers: int) -> tuple[int, int, int]:
    """The largest sum of PSS in bytes, the part of it that is shared weights, and the batch's exit code."""
    (folder / "r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(4 * workers)))
    command = [sys.executable, "-m", "planner", "batch", "x.plan.yaml", "--inputs", "r.jsonl", "--simulate"]
    command += ["--out", out, "--engine", engine, "--workers", str(workers)]
    most = (0, 0)
    with open(folder / f"{out}.log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            pids = [process.pid, *children(process.pid)]
            most = max(most, (sum(map(pss, pids)), sum(map(shared_pss, pids))))
            time.sleep(0.1)
    return *most, process.returncode


def on_device(out: Path) -> int:
    """Bytes of the host's memory that were a virtual device's."""
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return max(record["peak"] for record in records)


def children(pid: int) -> list[int]:
    """Process ids of what it started, and what those did."""
    try:
        return [one.pid for one in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def pss(pid: int) -> int:
    """Bytes; 0 of a process that is gone."""
    return sum(kilobytes(pid, "smaps_rollup", lambda name: True))


def shared_pss(pid: int) -> int:
    """Bytes of the weights that the workers share."""
    return sum(kilobytes(pid, "smaps", lambda name: name.startswith(MEMORY)))


def kilobytes(pid: int, file: str, taken: object) -> Iterator[int]:
    """``Pss`` of each mapping whose name is ``taken``, in bytes."""
    assert callable(taken)
    name = ""
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if found := re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)", line):
                name = found[1]
            elif line.startswith("Pss:") and taken(name):
                yield int(line.split()[1]) << 10
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.batches.ram``: the host's memory that 1, 2 and 4 workers of a machine take together.

PSS (``/proc/PID/smaps_rollup``: a page that n processes map counts 1/n in each) of workers that have their
pipeline under the plan, before the first row, with shared weights and with a copy each; and at the peak of a
batch on the virtual accelerator, whose memory is the host's too: what weights lay there is told, and is not
there with a real one. The pipeline is Flux's with random weights in bfloat16, nearly all of them in the
transformer; the built-in tiny one tells what processes take without.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PLAN = """version: 1
pipeline: {{class: FluxPipeline, source: '{source}', dtype: bfloat16}}
budget: {{vram: {budget}MB}}
components: {{transformer: stream}}
run: {{prompt: a cat, num_inference_steps: 4, height: 64, width: 64, seed: 3}}
"""
SOURCES = {"small": ("builtin:tiny-flux", 200), "large": ("./flux", 340)}
WAITS = """
import pickle, sys
from pathlib import Path
from planner.batches.worker import Worker
worker = Worker(pickle.loads(Path("job").read_bytes()))
worker._work = worker._prepared()
print("ready", flush=True)
sys.stdin.read()
"""


def main() -> int:
    """Prints lines of figures; ends where a batch did not make all of its outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=8, help="double ones, and twice as many single ones")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--no-rows", action="store_true", help="only before the first row")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        print(f"weights {made(folder / 'flux', asked.blocks) / 1e6:.0f} MB", flush=True)
        for kind, (source, budget) in SOURCES.items():
            (folder / "x.plan.yaml").write_text(PLAN.format(source=source, budget=budget))
            for workers in asked.workers:
                said = f"{before_rows(folder, workers, shares=True) / 1e6:.0f} MB before the first row, "
                said += f"{before_rows(folder, workers, shares=False) / 1e6:.0f} with a copy each"
                if not asked.no_rows:
                    most, device = while_rows_run(folder, f"{kind}-{workers}", workers)
                    said += f"; {most / 1e6:.0f} at the peak, {device / 1e6:.0f} of them on each device"
                print(f"{source} {workers} workers: {said}", flush=True)
    return 0


def made(folder: Path, blocks: int) -> int:
    """Writes the pipeline and returns the bytes of its weights."""
    import torch
    from diffusers import FluxPipeline, FluxTransformer2DModel

    from planner.loading.builtin import builtin_folder, quiet

    with quiet():
        pipe = FluxPipeline.from_pretrained(builtin_folder("tiny-flux"))
        config = dict(pipe.transformer.config) | {"num_layers": blocks, "num_single_layers": 2 * blocks}
        config |= {"attention_head_dim": 64, "num_attention_heads": 16, "axes_dims_rope": (16, 24, 24)}
        torch.set_default_dtype(torch.bfloat16)
        pipe.transformer = FluxTransformer2DModel.from_config(config)
        torch.set_default_dtype(torch.float32)
        pipe.to(torch.bfloat16).save_pretrained(folder)
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def before_rows(folder: Path, workers: int, *, shares: bool) -> int:
    """The sum of PSS of so many workers that are ready, in bytes."""
    import planner
    from planner.batches.disk import held
    from planner.batches.packed import packed
    from planner.batches.task import Job

    plan = planner.load(folder / "x.plan.yaml", overrides=("idle=keep",))
    with held(folder / "out") as out:
        job = Job(plan=packed(plan), device="sim:0", out=out.out, token=out.token, threads=1, shares=shares)
        (folder / "job").write_bytes(pickle.dumps(job))
        team = [
            subprocess.Popen(
                [sys.executable, "-c", WAITS],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(workers)
        ]
        for one in team:
            if one.stdout is None or one.stdout.readline() != b"ready\n":
                sys.exit("a worker ended")
        found = sum(pss(one.pid) for one in team)
        for one in team:
            one.communicate(b"")
    return found


def while_rows_run(folder: Path, out: str, workers: int) -> tuple[int, int]:
    """Of a batch, the largest sum of PSS of the driver and its workers, and of weights on a device."""
    (folder / "r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(4 * workers)))
    command = [sys.executable, "-m", "planner", "batch", "x.plan.yaml", "--inputs", "r.jsonl", "--simulate"]
    command += ["--out", out, "--workers", str(workers)]
    most = 0
    with open(folder / f"{out}.log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            most = max(most, sum(map(pss, [process.pid, *children(process.pid)])))
            time.sleep(0.1)
    if process.returncode:
        sys.exit((folder / f"{out}.log").read_text())
    records = [json.loads(line) for line in (folder / out / "results.jsonl").read_text().splitlines()]
    return most, max(record["peak"] for record in records)


def children(pid: int) -> list[int]:
    """Process ids of what it started, and what those did."""
    try:
        return [one.pid for one in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def pss(pid: int) -> int:
    """Bytes; 0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())

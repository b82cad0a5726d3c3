"""``python -m tests.benchmarks.shared_memory``: may several processes register one piece of memory with CUDA?

Each process maps the same memory for reading, registers all of it as sessions do, waits until every one has,
and copies it to its GPU (process n to the n-th, and around). Beside that: memory of each process's own,
registered, and pageable. Told of each process: bytes that CUDA refused, seconds to register, GB/s of the
copies when all copy at once and when one does, whether the bytes on the device are right; and the host's
memory that all of them took together (PSS). ``--gib`` is held once, and once by each process for its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from planner.device.pinned import Pins, fresh_pages
from planner.device.shared import made, opened

CHUNK = 64 << 20
KINDS = ("pageable", "own", "shared")


def main() -> int:
    """Prints a line a process and kind; 1 where what is shared was refused, or copied wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4, 8])
    asked = parser.parse_args()
    nbytes = int(asked.gib * (1 << 30)) // CHUNK * CHUNK
    print(f"torch {torch.__version__}, {torch.cuda.device_count()} x {torch.cuda.get_device_name()}")
    print(f"Linux {os.uname().release}, {nbytes >> 20} MiB")
    pages, bad = made("measure", nbytes, numbers), False
    for count in asked.processes:
        for kind in KINDS:
            bad |= together(kind, count, pages.file, nbytes)
    return int(bad)


def numbers(whole: torch.Tensor) -> None:
    """Bytes that tell where they are."""
    first = (torch.arange(CHUNK, dtype=torch.int32) % 251).to(torch.uint8)
    for start in range(0, len(whole), CHUNK):
        torch.add(first, start // CHUNK % 4, out=whole[start : start + CHUNK])


def together(kind: str, count: int, file: int, nbytes: int) -> bool:
    """Runs ``count`` processes and prints what they say; whether one of them was refused or is wrong."""
    spawn = multiprocessing.get_context("spawn")
    barrier, team = spawn.Barrier(count), []
    for number in range(count):
        pipe, theirs = spawn.Pipe()
        given = (theirs, barrier, number, kind, os.getpid(), file, nbytes)
        process = spawn.Process(target=one, args=given)
        process.start()
        theirs.close()
        team.append((process, pipe))
    said = [pipe.recv() for _, pipe in team]
    for process, _ in team:
        process.join()
    for number, found in enumerate(said):
        print(f"{count} {kind:9} #{number}: {', '.join(f'{key} {value}' for key, value in found.items())}")
    print(
        f"{count} {kind:9} PSS {sum(found['pss MB'] for found in said)} MB of {count} processes", flush=True
    )
    return any(not found["right"] or (kind == "shared" and found["refused"]) for found in said)


def one(pipe: Connection, barrier: Any, number: int, kind: str, pid: int, file: int, nbytes: int) -> None:
    """One process: registers, waits for the others, copies with them and then alone."""
    device = torch.device("cuda", number % torch.cuda.device_count())
    torch.cuda.set_device(device)
    target = torch.empty(CHUNK, dtype=torch.uint8, device=device)
    if kind == "shared":
        source = opened(pid, file, "measure").whole()
    else:
        source = torch.frombuffer(fresh_pages(nbytes), dtype=torch.uint8, count=nbytes)
        numbers(source)
    pins = Pins(device)
    began = time.perf_counter()
    if kind != "pageable":
        pins.add([(source.data_ptr(), nbytes)], [source])
    seconds = time.perf_counter() - began
    barrier.wait()
    at_once = rate(source, target)
    barrier.wait()
    size = pss()
    for turn in range(barrier.parties):
        if turn == number:
            alone = rate(source, target)
        barrier.wait()
    right = all(
        torch.equal(target.copy_(source[start : start + CHUNK]).cpu(), source[start : start + CHUNK])
        for start in range(0, nbytes, CHUNK)
    )
    pins.close()
    found = {"refused": pins.refused, "register s": round(seconds, 3), "GB/s at once": at_once}
    pipe.send(found | {"GB/s alone": alone, "pss MB": size, "right": right})


def rate(source: torch.Tensor, target: torch.Tensor) -> float:
    """GB/s of copies of all of ``source`` to the device."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for start in range(0, len(source), CHUNK):
        target.copy_(source[start : start + CHUNK], non_blocking=True)
    torch.cuda.synchronize()
    return round(len(source) / (time.perf_counter() - began) / 1e9, 1)


def pss() -> int:
    """MB that this process takes, of what n processes map one n-th."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 // 10**6


if __name__ == "__main__":
    sys.exit(main())

"""The ray engine: Ray Data gives rows to a pool of actors, each a worker with a device of its own.

What Ray does with an actor that dies (the rows that it had run again, without end) is bounded by the folder:
a row that is finished is not run again, and the third death sets a row aside. Results only tell the progress.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from typing import Any

from planner.batches.disk import Folder, guarded
from planner.batches.log import log_to
from planner.batches.stop import Stop
from planner.batches.task import Job, Stopped, Task
from planner.batches.worker import DEATHS, Worker
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_batch import RAY_FAILED, RAY_MISSING, WORKERS_REFUSED

STORE = 256 << 20
"""Bytes of a cluster's object store that is started here: rows and answers are small."""


def on_ray(
    job: Job, workers: int | None, address: str | None, tasks: Sequence[Task], folder: Folder, stop: Stop
) -> Generator[tuple[Task, bool]]:
    """As ``processes``, with actors of the Ray cluster at ``address`` (None: one on this machine for as long
    as the batch); ``workers``: as many as the cluster has GPUs by default, and one in simulation.

    Every machine of the cluster sees ``out`` under the same name. Raises PlanError without ray (P980), for
    a cluster that cannot be reached or breaks (P981) and where no row can run.
    """
    before = {task.id: folder.started(task.id) for task in tasks}
    by_id = {task.id: task for task in tasks}
    whole = False
    try:
        with _cluster(address, workers, job) as ray:
            stop.also = folder.stop
            for said in _answers(ray, job, _size(ray, workers, address, job), tasks):
                if isinstance(said, Stopped):
                    raise PlanError(said.diagnostics, said.sources)
                name, good = said
                if good is not None:
                    yield by_id[name], good
        whole = True
    finally:
        stop.also = _nothing
        if not whole:  # its actors were ended with it, which is no death of their rows
            for name, started in before.items():
                folder.unstart(name, started)


class Actor:
    """A worker as Ray makes it. What a row raises is its answer: an exception would end Ray's job.

    Ray gives it two rows at a time, where it is new enough: one thread of its own does all that touches the
    device, the others wait until their row has ended, so that one is written while the next one's call runs.
    """

    def __init__(self, job: Job, most: int, folder: str) -> None:
        import ray

        self.job = job
        self.thread = ThreadPoolExecutor(1, "offload-plan")
        self.worker: Worker | None = None
        self.stopped: Stopped | None = None
        try:
            with guarded(job.out):
                os.chdir(folder)  # what a plan names is beside it, and its name is relative to that
                self.folder = Folder(job.out, job.token)
                log_to(self.folder.inside / f"worker-{ray.get_runtime_context().get_actor_id()[:8]}.log")
                self.folder.loading(most)
                self.worker = self.thread.submit(Worker, job).result()
        except PlanError as error:
            self.stopped = Stopped(error.diagnostics, error.sources)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A pickled task to a pickled answer."""
        return {"said": pickle.dumps(self._answer(pickle.loads(row["task"])))}

    def _answer(self, task: Task) -> Stopped | tuple[str, bool | None]:
        if self.worker is None:
            assert self.stopped is not None
            return self.stopped
        try:
            with guarded(self.job.out):
                row = self.thread.submit(self._begun, self.worker, task).result()
                return task.id, None if row is None else row.result()
        except PlanError as error:
            return Stopped(error.diagnostics, error.sources)

    def _begun(self, worker: Worker, task: Task) -> Future[bool] | None:
        """None where no row begins any more."""
        return None if self.folder.stops() else worker.submit(task)


def _answers(ray: Any, job: Job, size: int, tasks: Sequence[Task]) -> Iterator[Any]:
    from ray.data import ActorPoolStrategy, DataContext, from_items

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the batch tells its own progress
    rows = [{"task": pickle.dumps(task)} for task in tasks]
    device = {"num_cpus": 1} if job.device.startswith("sim") else {"num_gpus": 1}
    how: dict[str, Any] = {"size": size}
    if "max_concurrent_calls_per_actor" in signature(ActorPoolStrategy).parameters:
        how |= {"max_concurrent_calls_per_actor": 2, "enable_true_multi_threading": True}
    answers = from_items(rows, override_num_blocks=len(rows)).map(
        Actor,
        fn_constructor_args=(job, DEATHS * size, os.getcwd()),
        compute=ActorPoolStrategy(**how),
        **device,
    )
    try:
        for answer in answers.iter_rows():
            yield pickle.loads(answer["said"])
    except ray.exceptions.RayError as error:
        raise PlanError([finding(RAY_FAILED, f"Ray ended the batch: {_short(error)}")]) from error


@contextmanager
def _cluster(address: str | None, workers: int | None, job: Job) -> Iterator[Any]:
    """Ray, connected: to whatever the process is connected to, to ``address``, or to a cluster on this
    machine that is gone afterwards."""
    if find_spec("ray") is None:
        said = 'the engine "ray" needs Ray, which is not installed'
        raise PlanError([finding(RAY_MISSING, said, hint="pip install 'offload-planner[ray]'")])
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read while it is imported
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "error"}
    own = {"include_dashboard": False, "object_store_memory": STORE, "_node_ip_address": "127.0.0.1"}
    if job.device.startswith("sim"):
        own["num_cpus"] = (workers or 1) + 1
    handler = signal.getsignal(signal.SIGTERM)
    try:
        try:
            _reach(address)
            ray.init(address, **quiet) if address is not None else ray.init("local", **quiet, **own)
        except Exception as error:
            said = f"no Ray cluster at {address or 'this machine'}: {_short(error)}"
            raise PlanError([finding(RAY_FAILED, said)]) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray took it
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str | None) -> None:
    """Raises OSError for an address where nothing answers, which Ray would ask for many minutes."""
    host, sign, port = (address or "").removeprefix("ray://").rpartition(":")
    if sign and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _size(ray: Any, workers: int | None, address: str | None, job: Job) -> int:
    if job.device.startswith("sim"):
        return workers or 1
    there = int(ray.cluster_resources().get("GPU", 0))
    if not there or ((workers or 0) > there and address is None):
        said = f"{workers or 'no'} workers, and Ray has {there} GPUs"
        raise PlanError([finding(WORKERS_REFUSED, said)])
    return workers or there


def _short(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _nothing() -> None:
    pass

"""Who does the work: this process, several processes here, or a Ray cluster. All give results as they come, in any order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any, Protocol

from tocsin.errors import InputError

Results = Generator[tuple[int, Any], None, None]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Died:
    """In place of a result: the worker did not live to give one."""

    why: str


class Workers(Protocol):
    """Runs a function, which must be importable by name, over tasks."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Results:
        """(index of the task, its result or `Died`), as they finish. Tasks begin in their order."""


class Here:
    """One task after the other in this process."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Results:
        for index, task in enumerate(tasks):
            yield index, function(task)


@dataclass(frozen=True)
class Processes:
    """Fresh processes side by side, which share the cores. A process that dies takes one task with it and is replaced."""

    jobs: int

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Results:
        import torch

        threads = max(1, torch.get_num_threads() // self.jobs)
        waiting = list(enumerate(tasks))[::-1]
        team: dict[connection.Connection, _Member] = {}
        try:
            while waiting or team:
                while waiting and len(team) < self.jobs:
                    member = _Member.started(threads)
                    team[member.link] = member
                    member.give(function, waiting.pop())
                for link in connection.wait(list(team)):
                    member = team[link]  # type: ignore[index]
                    yield member.task, member.result()
                    if member.alive and waiting:
                        member.give(function, waiting.pop())
                    else:
                        team.pop(link).end()  # type: ignore[call-overload]
        finally:
            for member in team.values():
                member.end(now=True)


@dataclass
class _Member:
    """One process and our end of the pipe to it."""

    process: Any
    link: connection.Connection
    task: int = -1
    alive: bool = True

    @classmethod
    def started(cls, threads: int) -> _Member:
        context = get_context("spawn")  # fork would copy torch's threads half
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _environment(dict.fromkeys(_THREADS, str(threads))):
            process.start()
        theirs.close()  # so that the pipe ends with the process
        return cls(process, ours)

    def give(self, function: Callable[[Any], Any], numbered: tuple[int, Any]) -> None:
        self.task, task = numbered
        with suppress(OSError):  # dead already: `result` will say so
            self.link.send((function, task))

    def result(self) -> Any:
        try:
            return self.link.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            code = self.process.exitcode
            return Died(f"the worker was ended by signal {-code}" if code < 0 else f"the worker ended with code {code}")

    def end(self, now: bool = False) -> None:
        self.link.close()
        if now:
            self.process.terminate()
        self.process.join()


def _serve(link: connection.Connection) -> None:
    """A worker's life: tasks in, results out, until the pipe or the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError):
        while True:
            function, task = link.recv()
            link.send(function(task))


def _end_with_parent() -> None:
    """A killed parent's worker must not go on for hours, beside those of the run that resumes."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the processes started in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster. Its machines need the same tocsin, and see the same data and output folders under the same paths."""

    address: str
    """As Ray takes it: ``auto``, ``HOST:6379``, ``ray://HOST:10001``."""
    jobs: int | None = None
    """Tasks at a time; None: one for each core of the cluster."""
    device: str = "auto"

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Results:
        try:
            import ray
        except ImportError as why:
            raise InputError("--ray: Ray is not installed; install the extra: pip install 'tocsin[ray]'") from why
        try:
            ray.init(address=self.address, logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError, OSError) as why:
            raise InputError(f"--ray: no cluster answers at {self.address!r} ({why})") from why
        try:
            nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            total, largest = max(1, sum(nodes)), max(1, *nodes, 1)
            cpus = 1 if self.jobs is None else min(largest, max(1, total // self.jobs))
            # max_retries: a machine that dies costs its tasks, which are then shown as failed, not repeated in silence
            remote = ray.remote(num_cpus=cpus, num_gpus=int(self.device.startswith("cuda")), max_retries=0)(function)
            width = max(1, total // cpus)
            waiting = list(enumerate(tasks))[::-1]
            running: dict[Any, int] = {}
            while waiting or running:
                while waiting and len(running) < width:  # not all at once: a stopped run leaves no queue behind
                    index, task = waiting.pop()
                    running[remote.remote(task)] = index
                done, _ = ray.wait(list(running), num_returns=1)
                for reference in done:
                    index = running.pop(reference)
                    try:
                        yield index, ray.get(reference)
                    except ray.exceptions.RayError as why:
                        yield index, Died(f"the Ray task failed: {type(why).__name__}: {why}")
        finally:
            ray.shutdown()

"""A dask cluster of processes of its own, as one would start it by hand, on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import psutil

SCHEDULER = (sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
WORKER = (sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard")


class Cluster:
    """``address``: host:port of the scheduler."""

    def __init__(self, folder: Path, stack: ExitStack):
        self._folder, self._stack = folder, stack
        self._log: IO[str] = stack.enter_context((folder / "dask.log").open("w"))
        file = folder / "scheduler.json"
        self.scheduler = self._start(*SCHEDULER, "--no-dashboard", "--scheduler-file", str(file))
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline, (folder / "dask.log").read_text()
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"].removeprefix("tcp://")
        self.workers: list[psutil.Process] = []

    def add_worker(self) -> psutil.Process:
        """Start one; no nanny starts it again when it dies."""
        local = ("--local-directory", str(self._folder / str(len(self.workers))))
        self.workers.append(psutil.Process(self._start(*WORKER, "--no-nanny", *local, self.address).pid))
        return self.workers[-1]

    def _start(self, *command: str) -> subprocess.Popen[str]:
        # Functions of the tests are sent by name.
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(
            command, cwd=self._folder, env=environment, stdout=self._log, stderr=self._log, text=True
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Cluster]:
    """A scheduler and some workers, all ended with the block."""
    with ExitStack() as stack:
        cluster = Cluster(folder, stack)
        for _ in range(workers):
            cluster.add_worker()
        yield cluster

"""Tasks on a Ray cluster; only numbers travel, the files are on storage that all nodes see."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_sharding.job.engines.engine import OnDone, describe, failure, task_name
from data_sharding.job.folder import JobFolder, Stage

INSTALL = "the Ray engine needs the package ray: pip install 'triptych[ray]'"


@dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Runs tasks on Ray, in a window of so many at a time.

    Attributes:
        address: The cluster's address, `auto` for the one this node belongs to; None starts Ray on
            this machine. A connection that is open already is used as it is.
        window: Most tasks that Ray knows of at once; None is twice the cluster's cores.
        retries: How often a task whose process died is run again.
    """

    address: str | None = None
    window: int | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"ray: window must be at least 1, got {self.window}")
        if self.retries < 0:
            raise ValueError(f"ray: retries must not be negative, got {self.retries}")

    def run(self, out: Path, stage: Stage, numbers: Sequence[int], on_done: OnDone) -> None:
        """See `Engine.run`."""
        missing = set(JobFolder(out).missing(stage, numbers))
        for number in numbers:
            if number not in missing:
                on_done(number)
        if missing:
            self._run_missing(out.absolute(), stage, sorted(missing), on_done)

    def _run_missing(self, out: Path, stage: Stage, numbers: list[int], on_done: OnDone) -> None:
        ray = self._connect()
        remote = ray.remote(num_cpus=1, max_retries=self.retries)(run_described)
        window = self.window or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting, running = iter(numbers), {}
        try:
            while True:
                while len(running) < window and (number := next(waiting, None)) is not None:
                    running[remote.remote(str(out), stage, number)] = number
                if not running:
                    return
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                number = running.pop(done)
                self._take(ray, done, stage, number)
                on_done(number)
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _connect(self) -> Any:  # noqa: ANN401 - a module that need not be installed
        try:
            import ray
        except ImportError as error:
            raise ValueError(INSTALL) from error
        if not ray.is_initialized():
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False)
        return ray

    def _take(self, ray: Any, done: Any, stage: Stage, number: int) -> None:  # noqa: ANN401
        try:
            described = ray.get(done)
        except ray.exceptions.RayError as error:
            raise OSError(f"{task_name(stage, number)}: Ray gave it up: {error}") from error
        if described is not None:
            raise failure(stage, number, described)


def run_described(out: str, stage: Stage, number: int) -> tuple[str, str] | None:
    """Runs a task where Ray put it; returns what went wrong as text, or None."""
    import torch

    from data_sharding.job.task import run_task

    torch.set_num_threads(1)
    try:
        run_task(Path(out), stage, number)
    except Exception as error:
        return describe(error)
    return None

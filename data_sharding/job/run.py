"""Raw corpus -> shard set: plan, scan, resolve, write, and the manifest last.

Between the steps everything lies in files under OUT, so that a job that was killed goes on where
its receipts stop, and the result depends on the corpus and the settings alone.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_sharding.job.budget import RejectBudget, counted
from data_sharding.job.claim import abandon, claimed, dissolve, locked, unlock
from data_sharding.job.config import ShardingConfig
from data_sharding.job.divide import Earlier, Resolution
from data_sharding.job.engines import Engine, LocalEngine, OnDone
from data_sharding.job.finish import REJECTS_FILE, Finish, list_scan_rejects
from data_sharding.job.folder import JobFolder, Stage, TaskSettings
from data_sharding.job.generations import open_earlier
from data_sharding.job.plan import Plan, plan_rows
from data_sharding.job.report import ShardReport, report_on
from data_sharding.job.resolve import planned_shards, resolve
from data_sharding.manifest import MANIFEST_FILE, VERSION, ShardSet
from data_sharding.progress import track
from data_sharding.schema import canonical_json
from data_sharding.sources import ManifestSource, Source, open_source
from data_sharding.storage import is_remote


def shard_corpus(
    corpus: Path | str,
    out: Path,
    config: ShardingConfig,
    engine: Engine | None = None,
    *,
    append: bool = False,
) -> ShardReport:
    """Writes a corpus as a shard set, or continues a killed job of the same corpus and settings.

    Args:
        corpus: A manifest file, a folder, or tars, on a local disk or by URL; see `open_source`.
        out: A folder that is new, empty, or holds such an unfinished job. With `append`: a
            finished set, to which a generation of shards is added; nothing else of it changes.
        config: Shard sizes and limits.
        engine: Where the tasks run; None runs them one by one in this process.
        append: Whether to add to a finished set.

    Raises:
        ValueError: No such corpus, `out` is taken, too many rows are rejected, or none passes.
        OSError: Something cannot be read or written; the same call goes on from there.
    """
    folder = JobFolder(Path(out))
    source = open_source(str(corpus), config.source)
    if not isinstance(source, ManifestSource):
        _refuse_inside(folder.out, str(corpus))
    before = _earlier_set(folder, append)
    identity = _identity(source.fingerprint(), config, before)
    if (report := _finished_before(folder, identity, append)) is not None:
        return report
    earlier = open_earlier(before) if before else Earlier()
    with claimed(folder, identity):
        plan = _planned(folder, source, identity, config, len(before.shards) if before else 0)
        steps = _Steps(folder, plan, config, engine or LocalEngine(workers=1))
        resolution = steps.run(str(corpus), earlier)
        shards, generations = (before.shards, before.generations) if before else ((), ())
        Finish(folder, plan, resolution, earlier).run(identity, shards, generations)
        dissolve(folder)
    return report_on(folder, resolution.straddling, len(generations))


def _planned(
    folder: JobFolder,
    source: Source,
    identity: Mapping[str, Any],
    config: ShardingConfig,
    first_shard: int,
) -> Plan:
    """Leaves on disk what every task needs."""
    root = source.root if is_remote(source.root) else str(Path(source.root).absolute())
    job = hashlib.sha256(canonical_json(identity)).hexdigest()
    folder.prepare(TaskSettings(job=job, root=root, config=config, first_shard=first_shard))
    return plan_rows(folder, source.rows(), config.rows_per_task)


class _Steps:
    """From planned rows to written shards."""

    def __init__(
        self, folder: JobFolder, plan: Plan, config: ShardingConfig, engine: Engine
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._config = config
        self._engine = engine

    def run(self, corpus: str, earlier: Earlier) -> Resolution:
        """Scan, resolve, write.

        Raises:
            ValueError: Too many rows are rejected, or none is left.
        """
        if self._plan.rows == 0:
            abandon(self._folder)
            raise ValueError(f"{corpus} holds no rows")
        self._scan(corpus)
        resolution = resolve(self._folder, self._plan, self._config, earlier)
        if resolution.shards == 0:
            abandon(self._folder)
            raise ValueError(
                f"{corpus}: no row is left ({counted(resolution.rejects)})"
                + ("; all of them are in the set already" if _only_repeats(resolution) else "")
            )
        self._refuse_a_full_disk()
        self._run("write", resolution.shards)
        return resolution

    def _scan(self, corpus: str) -> None:
        budget = RejectBudget(rows=self._plan.rows, share=self._config.max_reject_share)
        done: list[int] = []

        def count(number: int) -> None:
            done.append(number)
            budget.add(self._folder.read_receipt("scan", number)["rejects"])
            if budget.spent and len(done) < self._plan.tasks:
                raise self._over(budget, done)

        self._run("scan", self._plan.tasks, count)
        if budget.counts.total() == self._plan.rows:
            abandon(self._folder)
            raise ValueError(budget.nothing_left(corpus))
        if budget.spent:
            raise self._over(budget, done)

    def _run(self, stage: Stage, tasks: int, on_done: OnDone = lambda number: None) -> None:
        label = {"scan": "checking rows, tasks", "write": "writing shards"}[stage]
        with closing(track(range(tasks), label, tasks)) as progress:

            def note(number: int) -> None:
                next(progress)
                on_done(number)

            self._engine.run(self._folder.out, stage, range(tasks), note)

    def _over(self, budget: RejectBudget, done: Sequence[int]) -> ValueError:
        listed = self._folder.unfinished / REJECTS_FILE
        list_scan_rejects(self._folder, listed, sorted(done))
        return ValueError(budget.report(str(listed)))

    def _refuse_a_full_disk(self) -> None:
        """Before hours of work; what is re-encoded grows smaller by an unknown share.

        Raises:
            OSError: There is not room enough.
        """
        encode = self._config.encode
        if encode.image_short_side is not None or encode.audio != "keep":
            return
        needed = sum(
            shard.bytes
            for number, shard in enumerate(planned_shards(self._folder))
            if not self._folder.is_done("write", number)
        )
        free = shutil.disk_usage(self._folder.out).free
        if needed > free:
            raise OSError(
                f"{self._folder.out}: the shards need about {needed} bytes more, {free} bytes are "
                "free; make room and run the same command again, which goes on from here"
            )


def _refuse_inside(out: Path, corpus: str) -> None:
    """A corpus that is a folder's content must not find the job's own files there."""
    if is_remote(corpus) or not Path(corpus).is_dir():
        return
    if out.resolve().is_relative_to(Path(corpus).resolve()):
        raise ValueError(f"{out} lies inside the corpus {corpus}; choose a folder outside it")


def _only_repeats(resolution: Resolution) -> bool:
    return set(resolution.rejects) <= {"duplicate", "near-duplicate"}


def _earlier_set(folder: JobFolder, append: bool) -> ShardSet | None:
    """The set to append to, as it was before this job."""
    if not append:
        return None
    if not (folder.out / MANIFEST_FILE).is_file():
        raise ValueError(
            f"{folder.out} holds no finished shard set to append to; make one without append"
        )
    return ShardSet.open(folder.out)


def _identity(
    sources: list[dict[str, Any]], config: ShardingConfig, before: ShardSet | None
) -> dict[str, Any]:
    """What makes a job the same job: corpus, settings and the set that it adds to."""
    settings = asdict(config)
    del settings["max_reject_share"], settings["clean"]["retry"]  # decide whether, not what
    identity = {
        "version": VERSION,
        "generation": len(before.generations) if before else 0,
        "base": before.digest if before else None,
        "sources": sources,
        "config": settings,
    }
    return json.loads(canonical_json(identity))


def _finished_before(
    folder: JobFolder, identity: Mapping[str, Any], append: bool
) -> ShardReport | None:
    """Cleans up after a job that was killed between its manifest and its end.

    Raises:
        ValueError: There is a finished set and nothing to finish.
    """
    if not (folder.out / MANIFEST_FILE).is_file():
        return None
    if folder.job_file.is_file():
        old = json.loads(folder.job_file.read_bytes())
        shard_set = ShardSet.open(folder.out)
        same = all(old[name] == identity[name] for name in ("version", "sources", "config"))
        if same and old["generation"] == len(shard_set.generations) - 1:
            straddling = 0
            if folder.resolved_file.is_file():  # else most of the job is removed already
                straddling = json.loads(folder.resolved_file.read_bytes())["straddling"]
            with locked(folder):
                dissolve(folder)
            return report_on(folder, straddling, old["generation"])
    unlock(folder)
    if not append:
        raise ValueError(
            f"{folder.out} already holds a finished shard set; choose another folder, or append"
        )
    return None

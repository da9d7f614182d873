"""What a plan tells, and each finding provoked; above 300 lines, for there are many findings."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from data_sharding.manifest import ShardSet
from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from launch.__main__ import main
from launch.cluster import ClusterConfig
from launch.plan import folder
from launch.plan.batch import batch_chapter, schedule_chapter
from launch.plan.chapter import Chapter, duration, gigabytes, told
from launch.plan.checkpoints import Disk, checkpoint_chapter
from launch.plan.data import data_chapter
from launch.plan.folder import folder_chapter
from launch.plan.memory import memory_chapter
from launch.plan.passes import Entries, Passes, Rehearsal
from launch.plan.run import PlanOptions, head_chapter, plan_run
from launch.plan.slurm import slurm_chapter
from launch.plan.speed import Pace, assumed_pace, measured_pace, speed_chapter
from launch.run_config import RunConfig, save_run_config
from pretrain.config import BatchConfig
from pretrain.ema import EmaConfig
from tiny import tiny_run

GPUS = ClusterConfig(nodes=1, ranks_per_node=2, gpus_per_node=2, cpus_per_task=2)


@pytest.fixture
def tiny(tmp_path, sample_shards) -> RunConfig:
    return tiny_run(tmp_path / "run", sample_shards)


@pytest.fixture
def no_slurm(monkeypatch):
    """Nothing on PATH; what a cluster would say is tested elsewhere."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture(scope="module")
def rehearsed(sample_shards) -> tuple[Entries, Passes]:
    """The tiny networks' weights, and a micro-batch of 16 samples."""
    config = tiny_run(Path("run"), sample_shards).pretrain
    stats = CorpusStats.load(sample_shards / "stats")
    rehearsal = Rehearsal(config, stats, sample_shards / "stats" / TOKENIZER_FILE)
    return rehearsal.entries(), rehearsal.passes(16, 16, complete=True)


def found_in(chapter: Chapter) -> str:
    """The only finding of a chapter."""
    (finding,) = chapter.findings
    return finding


def folder_findings(config: RunConfig, resume: bool = False) -> list[str]:
    return folder_chapter(config, resume, fresh=False)[0].findings


def changed(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, pretrain=replace(config.pretrain, **changes))


def on_gpus(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, cluster="slurm", slurm=replace(GPUS, **changes))


def test_a_good_run_has_no_finding_and_leaves_no_trace(tiny, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words(tiny))
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert text.endswith("\n\nNo finding\n")
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "16 samples = 1 ranks x 16 a pass x 1 pass a step" in text
    assert not tiny.run.exists()
    assert list(tiny.run.parent.iterdir()) == []


def test_findings_are_told_in_a_line_each_and_the_exit_code_is_1(tiny, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words(tiny), "--ranks", "3", "--pretrain.ema.base-tau", "0.9999"])
    last = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert stopped.value.code == 1
    assert last[0] == "2 findings"
    assert "not a multiple of the 3 ranks; the nearest: 15 and 18" in last[1]
    assert "remembers 10,000 steps, more than the run's" in last[2]


def words(config: RunConfig) -> list[str]:
    """A stored run as options, with a folder that is not there yet."""
    stored = config.run.parent.parent / f"{config.run.parent.name}.json"
    save_run_config(config)
    shutil.move(config.run / "config.json", stored)
    config.run.rmdir()
    return ["plan", "--config", str(stored)]


def test_unusable_options_are_refused(capsys):
    for rest in (["demo", "--utilisation", "0"], ["demmo"], []):
        with pytest.raises(SystemExit) as stopped:
            main(["plan", *rest])
        assert stopped.value.code == 2


def test_the_shipped_four_node_recipe_has_a_plan(sample_shards, tmp_path, no_slurm, capsys):
    run = ("--run", str(tmp_path / "run"))
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "large", *run, "--pretrain.data.shards", str(sample_shards)])
    text = capsys.readouterr().out
    assert stopped.value.code == 1
    for line in (
        "32 (4 nodes x 8, by Slurm), bf16, ZeRO 1",
        "4,096 samples = 32 ranks x 128 a pass x 1 pass a step",
        "image 85.8 M",
        "stages 0, 1, 2, 3 fit",
        "100,000",
        "the newest 5 kept",
        "8 GPUs a node, 14 cores a rank",
        "less than one global batch of 4,096",
        f"{tmp_path / 'run'}: every node has its own /tmp",
        "no scontrol on PATH: do this on a Slurm login node",
    ):
        assert line in " ".join(text.split()), line


def test_missing_shards_do_not_keep_the_rest_from_being_told(tiny, tmp_path):
    data = replace(tiny.pretrain.data, shards=str(tmp_path / "nowhere"))
    chapters = plan_run(changed(tiny, data=data), PlanOptions(), resume=False, fresh=False)
    titles = {chapter.title for chapter in chapters if chapter.lines}
    assert {"Batch", "Networks", "Checkpoints", "Run folder"} <= titles
    found = [finding for chapter in chapters for finding in chapter.findings]
    assert "nowhere is no shard set" in found[0]
    assert "make it with `triptych stats`" in found[1]
    assert "8,000 word pieces assumed" in told(chapters)


def test_a_shard_that_is_lost_or_cut_short_is_named(tiny, tmp_path, sample_shards):
    shutil.copytree(sample_shards, tmp_path / "hurt")
    (shard,) = ShardSet.open(tmp_path / "hurt", "train").shards
    hurt = changed(tiny, data=replace(tiny.pretrain.data, shards=str(tmp_path / "hurt")))
    with (tmp_path / "hurt" / shard.file).open("r+b") as file:
        file.truncate(1024)
    (tmp_path / "hurt" / shard.index_file).unlink()
    cut, lost = data_chapter(hurt)[0].findings
    assert f"{shard.file}: not the {shard.bytes:,} bytes that the manifest says" in cut
    assert f"{shard.index_file}: no such file" in lost
    assert "triptych verify" in lost


def test_a_batch_larger_than_the_corpus_is_found(tiny):
    chapter, corpus = data_chapter(changed(tiny, batch=BatchConfig(global_samples=512)))
    assert "297 samples, less than one global batch of 512" in found_in(chapter)
    assert corpus.complete


def test_lanes_that_do_not_divide_the_batch_are_found(tiny):
    chapter, _ = data_chapter(changed(tiny, batch=BatchConfig(global_samples=12)))
    assert "8 lanes do not divide the global batch of 12; choose lanes = 6" in found_in(chapter)


def test_a_batch_that_the_ranks_do_not_divide_is_found_with_what_would_fit(tiny):
    chapter = batch_chapter(replace(tiny, ranks=3))
    assert "the nearest: 15 and 18" in found_in(chapter)
    told_lines = " ".join(chapter.lines)
    assert "24" in told_lines  # that lanes divide too


def test_a_target_that_would_not_move_is_found(tiny):
    _, corpus = data_chapter(tiny)
    slow = changed(tiny, ema=EmaConfig(base_tau=0.999))
    assert "remembers 1,000 steps, more than the run's 40" in found_in(
        schedule_chapter(slow, corpus)
    )
    assert schedule_chapter(tiny, corpus).findings == []


def test_too_little_gpu_memory_is_found_with_what_would_fit(tiny, rehearsed):
    entries, passes = rehearsed
    chapter = memory_chapter(on_gpus(tiny), entries, passes, gpu_bytes=3.009e9)
    assert found_in(chapter).startswith("pretrain.zero_stage 1 needs about 3.0 GB of a GPU's 3.0")
    assert "set pretrain.batch.micro_samples" in found_in(chapter)
    assert "set pretrain.activation_checkpointing encoders" in found_in(chapter)
    assert memory_chapter(on_gpus(tiny), entries, passes, gpu_bytes=80e9).findings == []


def test_the_stage_that_fits_is_named(tiny, rehearsed):
    entries, passes = rehearsed
    large = replace(entries, sizes=replace(entries.sizes, online=10**9, target=10**9))
    many = changed(on_gpus(tiny, nodes=8, ranks_per_node=2), precision="bf16", zero_stage=0)
    found = found_in(memory_chapter(many, large, passes, gpu_bytes=16e9))
    assert "pretrain.zero_stage 0 needs about" in found
    assert "set pretrain.zero_stage 1" in found


def test_ranks_without_gpus_share_their_nodes_memory(tiny, rehearsed):
    without = on_gpus(tiny, gpus_per_node=0, memory_gb=1)
    assert memory_chapter(without, *rehearsed, gpu_bytes=None).findings == []
    entries = replace(rehearsed[0], sizes=replace(rehearsed[0].sizes, online=10**9))
    chapter = memory_chapter(without, entries, rehearsed[1], gpu_bytes=None)
    assert "2 ranks on a node need" in found_in(chapter)
    assert "ask for more slurm.memory_gb" in found_in(chapter)


def test_more_jobs_than_may_be_queued_again_are_found(tiny, rehearsed):
    run = on_gpus(tiny, walltime_minutes=3, max_requeues=1)
    chapter = speed_chapter(run, rehearsed[1], Pace(step_seconds=4.0, source="guessed"))
    assert "needs 2 requeues and slurm.max_requeues is 1: set it to 2" in found_in(chapter)


def test_a_step_longer_than_a_job_is_found(tiny, rehearsed):
    run = on_gpus(tiny, walltime_minutes=3, max_requeues=99)
    chapter = speed_chapter(run, rehearsed[1], Pace(step_seconds=61.0, source="guessed"))
    assert "and a job has 60.0 s before it is told to save" in found_in(chapter)


def test_a_step_is_arithmetic_and_views(tiny, rehearsed):
    _, passes = rehearsed
    share = passes.flops / (0.5 * 0.1e12)
    pace = assumed_pace(tiny, passes, peak_tflops=0.1, share=0.5, view_seconds=0.25)
    assert pace.step_seconds == pytest.approx(share + 16 * 0.25)
    assert "the 250 ms a sample that one core of this machine takes" in pace.source


def test_checkpoints_rarer_than_jobs_are_found(tiny):
    rare = changed(on_gpus(tiny, walltime_minutes=3), checkpoint_every_steps=40)
    pace = Pace(step_seconds=5.0, source="guessed")
    chapter = checkpoint_chapter(rare, 10**6, None, pace)
    assert "set a smaller pretrain.checkpoint_every_steps" in found_in(chapter)


def test_too_little_time_to_save_is_found(tiny):
    disk = Disk(free_bytes=10**12, write_bytes_per_second=1e7)
    pace = Pace(step_seconds=5.0, source="guessed")
    chapter = checkpoint_chapter(on_gpus(tiny), 10**9, disk, pace)
    assert "slurm.save_seconds 120 is less than two saves and a step (3.4 min)" in found_in(chapter)
    assert found_in(chapter).endswith("set it to 240")


def test_too_little_room_for_the_checkpoints_is_found(tiny):
    disk = Disk(free_bytes=10**6, write_bytes_per_second=None)
    chapter = checkpoint_chapter(tiny, 10**6, disk, None)
    assert "checkpoints will take 4.0 MB and 1.0 MB are free" in found_in(chapter)
    few = changed(tiny, keep_checkpoints=2)
    assert "the newest 2 kept: 3.0 MB" in " ".join(checkpoint_chapter(few, 10**6, disk, None).lines)


def test_a_folder_that_cannot_be_written_to_is_found(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    (found,) = folder_findings(replace(tiny, run=tmp_path / "file" / "run"))
    assert "cannot be written to (Not a directory)" in found


def test_a_folder_of_each_node_is_found(tiny, monkeypatch, tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nnone {tmp_path} tmpfs rw 0 0\n")
    monkeypatch.setattr(folder, "MOUNTS", mounts)
    assert folder.file_system(tmp_path / "deeper") == "tmpfs"
    assert folder.file_system(Path("/etc")) == "ext4"
    several = on_gpus(tiny, nodes=2)
    (by_name,) = folder_findings(several)
    assert "every node has its own /tmp" in by_name
    monkeypatch.setattr(folder, "refuse_node_local", lambda config: None)
    (by_kind,) = folder_findings(several)
    assert "lies on tmpfs, which each node has for itself" in by_kind
    assert folder_findings(on_gpus(tiny)) == []


def test_a_folder_that_holds_a_run_is_found(tiny):
    save_run_config(tiny)
    (found,) = folder_findings(tiny)
    assert "holds a run already; --resume continues it" in found
    (found,) = folder_findings(tiny, resume=True)
    assert "no checkpoint to resume from" in found


def test_a_task_that_is_none_is_found(tiny):
    (found,) = folder_findings(replace(tiny, probe_tasks=("nosuch",)))
    assert "nosuch: neither a task folder nor a built-in task" in found


def test_idle_gpus_and_ranks_without_one_are_found(tiny, no_slurm):
    few, without = slurm_chapter(on_gpus(tiny, ranks_per_node=1)).findings
    assert "1 GPUs of every node would stand idle" in few
    assert "no scontrol on PATH" in without
    many, _ = slurm_chapter(on_gpus(tiny, ranks_per_node=4)).findings
    assert "slurm.ranks_per_node 4 is more than slurm.gpus_per_node 2" in many


def test_a_measured_speed_takes_the_place_of_the_assumed_one(tiny, rehearsed):
    assert measured_pace(tiny.run, 16) is None
    (tiny.run / "checkpoints" / "step-00000010").mkdir(parents=True)
    (tiny.run / "checkpoints" / "step-00000010" / "COMPLETE").write_text("")
    lines = [
        {"step": step, "speed/samples_per_second": 32.0, "data/wait_share": 0.5}
        for step in (10, 20)
    ]
    metrics = "".join(json.dumps(line) + "\n" for line in lines)
    (tiny.run / "metrics.jsonl").write_text(metrics + '{"step": 30, "spe')
    pace = measured_pace(tiny.run, 16)
    text = " ".join(" ".join(speed_chapter(tiny, rehearsed[1], pace).lines).split())
    assert "step 1.0 s, 16 samples/s: measured, the median of the last 2 lines of" in text
    assert "10 of 40 done, 30 to go" in text
    assert "time to the end 30.0 s" in text


def test_a_tower_that_would_start_from_nothing_is_found(tiny, tmp_path):
    backbone = tiny.pretrain.backbone
    warm = replace(backbone, text=replace(backbone.text, initial=tmp_path / "bert"))
    chapter = head_chapter(changed(tiny, backbone=warm))
    assert f"backbone.text.initial {tmp_path / 'bert'}: no config.json" in found_in(chapter)
    assert head_chapter(tiny).findings == []


def test_a_gpu_is_looked_for_where_the_ranks_are_started(tiny, monkeypatch):
    assert on_gpus(tiny).has_gpu
    assert not on_gpus(tiny, gpus_per_node=0).has_gpu
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert tiny.has_gpu


def test_sizes_and_times_are_rounded_for_people():
    assert [gigabytes(n) for n in (900, 5.8e9, 123.4e6)] == ["0.9 kB", "5.8 GB", "123 MB"]
    assert [duration(s) for s in (0.29, 90, 600, 9000, 200_000)] == [
        "0.29 s", "90.0 s", "10.0 min", "2.5 h", "2.3 days",
    ]  # fmt: skip

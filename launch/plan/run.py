"""The chapters of a plan, put together."""

from dataclasses import dataclass

from data_sharding.logmel import LogMelConfig
from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from data_sharding.vocabulary import VocabularyConfig
from launch.plan.batch import accumulation_steps, batch_chapter, micro_samples, schedule_chapter
from launch.plan.chapter import Chapter
from launch.plan.checkpoints import checkpoint_chapter
from launch.plan.data import Corpus, data_chapter
from launch.plan.folder import folder_chapter
from launch.plan.memory import memory_chapter, network_chapter
from launch.plan.passes import Entries, Passes, Rehearsal
from launch.plan.slurm import slurm_chapter
from launch.plan.speed import PEAK_TFLOPS, assumed_pace, measured_pace, speed_chapter
from launch.plan.views_time import ViewSeconds, view_seconds
from launch.run_config import RunConfig


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a plan has to assume, because no machine here tells it."""

    gpu_memory_gb: float = 80.0
    """Memory of each GPU, in 10^9 bytes."""

    peak_tflops: float | None = None
    """Peak of each GPU without sparsity, in 10^12 operations a second; None is an H100's: 989 for
    bf16, 67 for fp32."""

    utilisation: float = 0.3
    """Share of the peak that training reaches. Well-tuned transformers get 0.3 to 0.5; convolutions
    and small layers less."""

    def __post_init__(self) -> None:
        for name in ("gpu_memory_gb", "peak_tflops"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")
        if not 0.0 < self.utilisation <= 1.0:
            raise ValueError(f"--utilisation must be in (0, 1], got {self.utilisation}")


def plan_run(config: RunConfig, options: PlanOptions, resume: bool, fresh: bool) -> list[Chapter]:
    """Look at everything that a start would need; what fails does not stop the rest.

    Args:
        config: The run, with absolute paths.
        options: What is assumed.
        resume: Whether the run is to go on.
        fresh: Whether it is to begin anew in its folder.
    """
    data, corpus = data_chapter(config)
    with_gpu = config.has_gpu
    rehearsed, entries, passes = _rehearse(config, corpus)
    views = None
    with data.finding_errors():
        views = _view_seconds(config, corpus)
    pace = measured_pace(config.run, config.pretrain.batch.global_samples)
    if pace is None and passes is not None and with_gpu:
        peak = options.peak_tflops or PEAK_TFLOPS[config.pretrain.precision]
        drawing = views and views.drawing
        pace = assumed_pace(config, passes, peak, options.utilisation, drawing)
    folder, disk = folder_chapter(config, resume, fresh)
    chapters = [data, batch_chapter(config), schedule_chapter(config, corpus), rehearsed]
    if entries is not None and passes is not None:
        gpu_bytes = options.gpu_memory_gb * 1e9 if with_gpu else None
        chapters.append(memory_chapter(config, entries, passes, gpu_bytes))
    speed = speed_chapter(config, passes, pace)
    if views is not None:
        views.tell(speed, with_gpu)
    chapters.append(speed)
    if entries is not None:
        chapters.append(checkpoint_chapter(config, entries.checkpoint_bytes, disk, pace))
    chapters.append(folder)
    if config.cluster == "slurm":
        chapters.append(slurm_chapter(config))
    return [head_chapter(config), *chapters]


def _view_seconds(config: RunConfig, corpus: Corpus) -> ViewSeconds | None:
    """Of a sample; None where there is no tokenizer yet, which is a finding already."""
    if corpus.stats is None:
        return None
    file = config.pretrain.data.stats_folder / TOKENIZER_FILE
    return view_seconds(config.pretrain, corpus.stats, file) if file.is_file() else None


def head_chapter(config: RunConfig) -> Chapter:
    """What the run is."""
    pretrain = config.pretrain
    chapter = Chapter(f"Plan of {config.run}")
    towers = pretrain.backbone.towers
    encoders = ", ".join(f"{tower.encoder} ({name})" for name, tower in towers.items())
    fusion = pretrain.backbone.fusion.fusion
    chapter.tell("run", f"{pretrain.objective}: {encoders}, {fusion} fusion")
    where = {
        "slurm": f"{config.slurm.nodes} nodes x {config.slurm.ranks_per_node}, by Slurm",
        "local": "started here",
        "inline": "started by torchrun or srun",
    }[config.cluster]
    chapter.tell(
        "ranks", f"{config.world_size} ({where}), {pretrain.precision}, ZeRO {pretrain.zero_stage}"
    )
    for name, tower in towers.items():
        if tower.initial is not None and not (tower.initial / "config.json").is_file():
            chapter.find(
                f"backbone.{name}.initial {tower.initial}: no config.json, so no transformers "
                "checkpoint to start from; give its folder"
            )
    return chapter


def _rehearse(config: RunConfig, corpus: Corpus) -> tuple[Chapter, Entries | None, Passes | None]:
    """The networks, and one micro-batch through them."""
    pretrain, chapter = config.pretrain, Chapter("Networks")
    entries = passes = None
    with chapter.finding_errors():
        pretrain.check_kernels(config.has_gpu)
        stats, assumed = corpus.stats, ""
        if stats is None:
            stats = _usual_stats()
            assumed = f"without statistics: {stats.vocab_size:,} word pieces assumed"
        folder = pretrain.data.stats if corpus.stats is None else pretrain.data.stats_folder
        rehearsal = Rehearsal(pretrain, stats, (folder or config.run) / TOKENIZER_FILE)
        entries = rehearsal.entries()
        chapter.lines += network_chapter(entries).lines
        if assumed:
            chapter.tell("assumed", assumed)
        micro = micro_samples(config)
        passes = rehearsal.passes(micro, micro * accumulation_steps(config), corpus.complete)
    return chapter, entries, passes


def _usual_stats() -> CorpusStats:
    """What a corpus would have by default."""
    return CorpusStats(
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.25, 0.25, 0.25),
        mel_mean=0.0,
        mel_std=1.0,
        vocab_size=VocabularyConfig().vocab_size,
        num_samples=1,
        log_mel=LogMelConfig(),
    )

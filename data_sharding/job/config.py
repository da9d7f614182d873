"""What a sharding job is told."""

from dataclasses import dataclass, field

from data_sharding.cleaning.clean import CleanConfig
from data_sharding.cleaning.reencode import EncodeConfig
from data_sharding.duplicates import DuplicatesConfig
from data_sharding.job.splits import check_shares
from data_sharding.sources import SourceConfig

MOST_ROWS_PER_TASK = 65_536


@dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """How a raw corpus becomes shards. Equal corpus and settings give an equal digest."""

    samples_per_shard: int = 10_000
    """Most samples in a shard."""

    shard_size_bytes: int = 512 * 1024 * 1024
    """A shard takes no further sample once its media, as found, reach this size."""

    licence: str | None = None
    """Licence of the corpus, recorded in manifest.json."""

    splits: dict[str, float] = field(default_factory=dict)
    """Split -> its share of the samples, by hash of what is alike: `train 0.98 validation 0.02`.
    Samples that are alike always come to the same split. Empty: the corpus's own `split` column."""

    max_reject_share: float = 0.1
    """The job fails once more than this share of the rows is rejected; repeated rows do not count.
    Nothing is lost: the same command with a higher share goes on."""

    rows_per_task: int = 2_000
    """Rows that one task checks; decides how finely the work is spread, and what a kill costs."""

    source: SourceConfig = field(default_factory=SourceConfig)
    """What kind of corpus it is, and what its columns are called."""

    clean: CleanConfig = field(default_factory=CleanConfig)
    """Limits that a sample must keep."""

    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    """What counts as a repetition, and what becomes of it."""

    encode: EncodeConfig = field(default_factory=EncodeConfig)
    """Whether pictures and sound are made smaller on the way."""

    def __post_init__(self) -> None:
        if not 1 <= self.samples_per_shard <= 1_000_000:
            raise ValueError(
                f"samples_per_shard must be in [1, 1000000], got {self.samples_per_shard}"
            )
        if self.shard_size_bytes < 1:
            raise ValueError(f"shard_size_bytes must be at least 1, got {self.shard_size_bytes}")
        if not 1 <= self.rows_per_task <= MOST_ROWS_PER_TASK:
            raise ValueError(
                f"rows_per_task must be in [1, {MOST_ROWS_PER_TASK}], got {self.rows_per_task}"
            )
        if not 0.0 <= self.max_reject_share <= 1.0:
            raise ValueError(f"max_reject_share must be in [0, 1], got {self.max_reject_share}")
        check_shares(self.splits)

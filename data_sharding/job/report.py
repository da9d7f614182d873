"""What a finished sharding job has made, for the terminal and for programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_sharding.job.budget import counted
from data_sharding.job.finish import rejects_file
from data_sharding.job.folder import JobFolder
from data_sharding.manifest import ShardSet


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What `shard_corpus` made.

    Attributes:
        folder: The shard set.
        digest: The set's digest.
        num_samples: Samples of the set.
        num_shards: Shards of the set.
        num_bytes: Size of all tars.
        present: Modality -> number of samples that have it.
        rejects: Reason -> number of this job's rows left out.
        rejects_file: Where they are listed.
        straddling: Clusters of samples that are alike but lie in more than one split.
        empty_splits: Wanted splits that no sample came to.
    """

    folder: Path
    digest: str
    num_samples: int
    num_shards: int
    num_bytes: int
    present: Mapping[str, int]
    rejects: Mapping[str, int]
    rejects_file: Path
    straddling: int = 0
    empty_splits: tuple[str, ...] = ()

    @property
    def num_rejected(self) -> int:
        """Rows left out."""
        return sum(self.rejects.values())

    def summary(self) -> str:
        """A few lines for the terminal."""
        held = ", ".join(f"{count} with {name}" for name, count in self.present.items())
        lines = [
            f"{self.num_samples} samples ({held}) in {self.num_shards} shards, "
            f"{self.num_bytes / 1e6:.1f} MB, digest {self.digest[:12]}: {self.folder}"
        ]
        if self.rejects:
            lines.append(
                f"{self.num_rejected} rows rejected ({counted(self.rejects)}), "
                f"see {self.rejects_file}"
            )
        else:
            lines.append("no row rejected")
        if self.straddling:
            lines.append(
                f"{self.straddling} clusters of samples that are alike lie in more than one split: "
                "scores on one split of what was learned on another will be too good. --splits "
                "divides the corpus anew, without that"
            )
        lines += [f"no sample came to the split {name}" for name in self.empty_splits]
        return "\n".join(lines)


def report_on(folder: JobFolder, straddling: int, generation: int) -> ShardReport:
    """The report of the job that made a generation of a finished set."""
    shard_set = ShardSet.open(folder.out)
    return ShardReport(
        folder=folder.out,
        digest=shard_set.digest,
        num_samples=shard_set.num_samples,
        num_shards=len(shard_set.shards),
        num_bytes=sum(shard.bytes for shard in shard_set.shards),
        present=shard_set.present,
        rejects=shard_set.generations[generation].rejects,
        empty_splits=tuple(
            sorted(set(shard_set.generations[generation].config["splits"]) - set(shard_set.splits))
        ),
        rejects_file=rejects_file(folder.out, generation),
        straddling=straddling,
    )

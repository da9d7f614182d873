"""What a run reads: its sets and the blend's weights, recorded at its start and at each resume.

``RUN/data.json`` is the record. A set that was altered, or a weight that was changed for samples
which are already consumed, would make the run another one, and is refused.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_sharding.durable import write_durably
from data_sharding.stream.source import StreamSource

DATA_FILE = "data.json"


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The content of ``data.json``.

    Attributes:
        sets: Location, digest and samples of each set, in the order of their weights.
        phases: ``[from_sample, weights]`` of each stretch of the blend.
    """

    sets: list[dict[str, Any]]
    phases: list[tuple[int, list[float]]]

    @classmethod
    def of(cls, source: StreamSource) -> "RunData":
        """What a stream is made of."""
        sets = [
            {"location": part.location, "digest": part.digest, "num_samples": part.num_samples}
            for part in source.sets
        ]
        phases = [(phase.from_sample, list(phase.weights)) for phase in source.phases]
        return cls(sets=sets, phases=phases)

    @classmethod
    def read(cls, path: Path) -> "RunData":
        """What an earlier start recorded.

        Raises:
            ValueError: The file is malformed.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            phases = [(int(start), list(weights)) for start, weights in content["phases"]]
            return cls(sets=list(content["sets"]), phases=phases)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: malformed ({error!r})") from error

    def write(self, run: Path) -> None:
        """Replaces the record of a run, whole."""
        content = {"sets": self.sets, "phases": self.phases}
        write_durably(run / DATA_FILE, (json.dumps(content, indent=1) + "\n").encode("utf-8"))

    def refuse_other_past(self, before: "RunData", samples_consumed: int, batch: int) -> None:
        """Refuses data whose first `samples_consumed` samples are not those of `before`.

        A phase begins with the first whole batch, so one that starts inside the last batch is
        still to come.

        Raises:
            ValueError: Names the set or the weights that differ.
        """
        for number, old in enumerate(before.sets):
            new = self.sets[number] if number < len(self.sets) else {"digest": None}
            if new["digest"] != old["digest"]:
                raise ValueError(
                    f"the run has read {old['location']} (digest {old['digest'][:12]}), which was "
                    "altered or is gone; give it back, or start another run"
                )
        past, now = (
            data._until(samples_consumed - batch, len(self.sets)) for data in (before, self)
        )
        if past != now:
            raise ValueError(
                f"the blend's weights before sample {samples_consumed} are {now} and were {past} "
                "when those samples were read; give them back with `triptych blend OUT "
                "--from-sample ...`, which replaces what begins there or later"
            )

    def _until(self, samples: int, num_sets: int) -> list[tuple[int, list[float]]]:
        """The phases that had begun, sets that came later with a weight of 0."""
        return [
            (start, weights + [0.0] * (num_sets - len(weights)))
            for start, weights in self.phases
            if start <= samples
        ]


def check_data(
    run: Path, source: StreamSource, samples_consumed: int, global_samples: int
) -> RunData:
    """What the run is about to read, once it agrees with what it has read.

    Raises:
        ValueError: As `RunData.refuse_other_past`.
    """
    now, path = RunData.of(source), run / DATA_FILE
    if path.exists() and samples_consumed:
        now.refuse_other_past(RunData.read(path), samples_consumed, global_samples)
    return now

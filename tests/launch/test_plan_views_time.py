"""What a plan says of the time that views take."""

import pytest

from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from launch.plan.chapter import Chapter
from launch.plan.views_time import ViewSeconds, view_seconds
from tiny import tiny_pretrain


def test_a_rank_with_a_gpu_is_left_with_a_small_part_of_what_one_without_does(sample_shards):
    stats = CorpusStats.load(sample_shards / "stats")
    config = tiny_pretrain(sample_shards)
    taken = view_seconds(config, stats, sample_shards / "stats" / TOKENIZER_FILE)
    assert 0.0 < taken.drawing < taken.making / 5
    assert taken.cutting > 0.0


@pytest.mark.parametrize(
    ("with_gpu", "own"),
    [
        (True, "0.01 ms of the rank itself for random numbers, its GPU does the rest"),
        (False, "20 ms of the rank itself for all the rest"),
    ],
)
def test_a_plan_tells_who_makes_the_views_and_how_long_that_takes(with_gpu, own):
    chapter = Chapter("Steps and time")
    ViewSeconds(cutting=0.002, drawing=1e-5, making=0.02).tell(chapter, with_gpu)
    said = " ".join(" ".join(chapter.lines).split())
    assert "2 ms a sample of a loader's worker for crops and texts" in said
    assert own in said

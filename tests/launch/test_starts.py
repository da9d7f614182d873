"""The record of a run's starts, and when it says that no further one makes sense."""

import json

from launch.preemption import EXIT_NOT_FINITE, EXIT_REFUSED, EXIT_REQUEUE
from launch.starts import (
    Start,
    changed_versions,
    furthest_step,
    read_starts,
    starts_in_vain,
    write_starts,
)


def start(furthest, code=None, job=None):
    return Start(furthest=furthest, from_step=0, ranks=2, drift={}, code=code, job=job)


def test_starts_that_came_no_further_are_in_vain():
    starts = [start(0), start(40), start(40), start(40)]
    assert len(starts_in_vain(starts, furthest=40)) == 3
    assert len(starts_in_vain(starts, furthest=41)) == 0


def test_a_clean_stop_and_a_mistake_that_was_told_count_neither_for_nor_against():
    codes = [None, EXIT_REQUEUE, EXIT_REFUSED, EXIT_NOT_FINITE]
    assert len(starts_in_vain([start(7, code) for code in codes], furthest=7)) == 2


def test_a_job_that_is_queued_again_without_a_step_of_progress_counts():
    requeued = [start(7, EXIT_REQUEUE, job="41")] * 3
    assert len(starts_in_vain(requeued, furthest=7)) == 3
    assert starts_in_vain(requeued, furthest=8) == []
    assert len(starts_in_vain([start(7, None, job="41")], furthest=7)) == 1  # a node's death
    assert starts_in_vain([start(7, EXIT_REFUSED, job="41")], furthest=7) == []


def test_how_far_a_run_came_is_read_from_what_it_logged(tmp_path):
    assert furthest_step(tmp_path, [], from_step=5) == 5
    lines = [json.dumps({"step": step}) for step in (8, 9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"st']))
    assert furthest_step(tmp_path, [], from_step=5) == 9
    # A resumed run drops what it logged after its checkpoint; the record keeps it.
    assert furthest_step(tmp_path, [start(12)], from_step=5) == 12


def test_the_record_survives_a_line_cut_short(tmp_path):
    write_starts(tmp_path, [start(0), start(3)])
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"furthest": 7, "fr')
    assert [entry.furthest for entry in read_starts(tmp_path)] == [0, 3]


def test_another_version_of_a_library_is_told():
    before, now = start(0), start(0)
    older = Start(**vars(before) | {"versions": {**before.versions, "torch": "1.0"}})
    assert changed_versions([older], now) == [f"torch 1.0 -> {now.versions['torch']}"]
    assert changed_versions([before], now) == []
    assert changed_versions([], now) == []

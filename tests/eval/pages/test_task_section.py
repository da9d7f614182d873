"""What the page says of one task, where the right words are known."""

import dataclasses

import pytest

from eval.comparison import Comparison, summarise
from eval.pages.run_pages import renew_pages
from eval.pages.run_record import made_alike
from eval.pages.task_section import task_sections
from tiny_pages import embedding_map
from tiny_probes import BASE, DIGEST, report, subset, write_run

REASON = "the test part has 3 groups, at least 5 are needed for an interval"


def undecided(name, reason=REASON):
    found = Comparison(difference=summarise([0.1], 0.4), beats=None, reason=f"no verdict: {reason}")
    return dataclasses.replace(subset(name, list(BASE)), versus_random=found)


def verdict(*parts):
    (section,) = task_sections([report(list(parts))], {})
    return section.verdict


def test_why_there_is_no_verdict_is_what_the_report_says():
    assert verdict(undecided("text")) == f"No verdict for text: {REASON}."


def test_representations_without_a_verdict_are_not_among_those_that_failed():
    won, lost = subset("text", list(BASE), beats=True), subset("image", list(BASE), beats=False)
    assert verdict(lost) == (
        "Pretrained features do not beat random-initialised ones in any representation."
    )
    assert verdict(lost, undecided("audio")) == (
        "Pretrained features do not beat random-initialised ones for: image. "
        f"No verdict for audio: {REASON}."
    )
    assert verdict(won, lost, undecided("audio"), undecided("fused", "why not")) == (
        "Pretrained features beat random-initialised ones for: text. Not for: image. "
        f"No verdict for audio: {REASON}. No verdict for fused: why not."
    )


@pytest.mark.parametrize(
    "changed",
    [{"shards": "cd" * 32}, {"task": {"classes": ["a", "b"]}}, {"protocol": {"rows": "shared"}}],
)
def test_scores_that_answer_another_question_are_on_no_common_curve(tmp_path, changed):
    parts = [subset("text", list(BASE))]
    old = report(parts, step=100, **changed)
    newer, newest = (report(parts, step=step) for step in (200, 300))
    (section,) = task_sections([old, newer, newest], {})
    (curve,) = section.curves
    assert curve.svg.count("<polyline") == len(curve.legend) == 4
    assert "at step 300" in curve.svg
    assert {len(line.split()) for line in polylines(curve.svg)} == {2}
    assert "step-00000100, probed with another card" in section.otherwise
    (section,) = task_sections([old, newest], {})
    assert section.curves == []
    assert made_alike([old, newer, newest]) == [newer, newest]
    run = write_run(tmp_path, old, newer, newest)
    renew_pages(run)
    assert "step-00000100, probed with another card" in (run / "report.html").read_text()
    assert tensorboard_steps(run) == {200, 300}


def polylines(svg):
    return [part.partition('"')[0] for part in svg.split('<polyline points="')[1:]]


def tensorboard_steps(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard" / "probes"))
    events.Reload()
    return {one.step for tag in events.Tags()["scalars"] for one in events.Scalars(tag)}


def test_checkpoints_that_were_probed_alike_are_all_on_the_curve():
    reports = [report([subset("text", list(BASE))], step=step) for step in (100, 200)]
    (section,) = task_sections(reports, {})
    assert len(section.curves) == 1
    assert section.otherwise == ""


def test_a_map_of_too_few_samples_is_not_drawn():
    nothing = dataclasses.replace(embedding_map(100), projections={})
    (section,) = task_sections([report([subset("text", list(BASE))])], {("mood", DIGEST): nothing})
    assert section.map is None

import json
import re
from html.parser import HTMLParser

import pytest

from eval.pages.charts import LineChart, draw_lines, short, ticks
from eval.pages.report import write_report
from eval.pages.run_record import read_run, read_scores
from eval.records import write_json
from pretrain.health import Finding, Verdict
from tiny_pages import embedding_map

PIXEL = "data:image/png;base64,iVBORw0KGgo="
EVIL = "<script>alert('x')</script>"


@pytest.fixture
def run(tmp_path, make_report):
    folder = tmp_path / "a-run"
    for step in (100, 200):
        report = make_report(step=step)
        write_json(folder / "probes" / f"step-{step:08d}" / "clouds.json", report.to_json())
    lines = [
        {
            "step": step,
            "samples": 64 * step,
            "loss/total": 4.0 / step,
            "loss/intra_text": 2.0 / step,
            "loss/cross_text_image": 3.0 / step,
            "schedule/tau": 0.99,
            "schedule/learning_rate": 1e-3,
            "health/std_projector_text": 0.9,
            "health/rank_projector_text": 12.0,
        }
        for step in (10, 20, 30)
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 4'
    (folder / "metrics.jsonl").write_text(text)
    finding = Finding(rule="constant", severity="stop", sentence=f"audio is constant. {EVIL}")
    verdicts = [Verdict(step=10), Verdict(step=20, findings=(finding,))]
    records = [
        {"step": verdict.step, "verdict": verdict.to_json(), "news": verdict.sentences()}
        for verdict in verdicts
    ]
    (folder / "health.jsonl").write_text("\n".join(map(json.dumps, records)) + '\n{"ste')
    write_json(folder / "config.json", {"pretrain": {"note": EVIL}})
    sample = {
        "key": EVIL,
        "text": EVIL,
        "text_views": [EVIL],
        "image": PIXEL,
        "image_views": [PIXEL, "https://example.org/spy.png", '" onerror="x'],
        "spectrogram": PIXEL,
        "spectrogram_views": [PIXEL],
    }
    (folder / "views").mkdir()
    (folder / "views" / "views.json").write_text(json.dumps({"samples": [sample]}))
    return folder


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(page):
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_text_from_data_is_escaped(run):
    page = write_report(run).read_text()
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 4
    assert not [name for name, _ in tags(page) if name == "script"]


def test_the_page_loads_nothing_from_elsewhere(run):
    page = write_report(run).read_text()
    assert "spy.png" not in page
    for _, attributes in tags(page):
        assert not set(attributes) & {"href", "onerror", "onload", "srcset"}
        assert attributes.get("src", "data:").startswith("data:")
    assert not re.search(r"@import|url\(", page)


def test_the_page_shows_scores_losses_health_and_views(run):
    page = write_report(run).read_text()
    for words in (
        "beat random-initialised ones for: text",
        "text → image",
        "Target pace",
        "Spread of projections",
        "1 is even in all directions",
        "Collapsed: these weights are unfit to publish",
        "audio is constant.",
        "What was found when",
        "text over checkpoints",
        "What the networks see",
        "lines of the metrics and of the health record were cut short",
        "audio not probed",
        "Late: even vote",
    ):
        assert words in page


def test_tiles_say_that_they_are_of_what_was_logged(run):
    page = write_report(run).read_text()
    assert "last logged step" in page
    assert "loss, first to last" in page
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text(lines[0])
    assert "loss, first to last" not in write_report(run).read_text()  # of one line there is none


def test_a_probe_from_before_late_fusion_still_has_its_page(run):
    for path in (run / "probes").rglob("*.json"):
        record = json.loads(path.read_text())
        del record["subsets"]["late"]
        del record["protocol"]["late"]
        path.write_text(json.dumps(record))
    page = write_report(run).read_text()
    assert "beat random-initialised ones for: text" in page
    assert "Late:" not in page


def test_a_run_without_probes_and_metrics_still_has_a_page(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    page = write_report(tmp_path).read_text()
    assert "No checkpoint of this run was probed yet" in page
    assert "No health signals were logged" in page


def test_a_malformed_look_is_counted_and_does_not_hide_the_others(run):
    before = read_run(run)
    with (run / "health.jsonl").open("a") as stream:
        stream.write('\n{"step": 3}\n[]\n{"step": 3, "verdict": {"step": 3}, "news": []}\n')
    after = read_run(run)
    assert after.num_broken_lines == before.num_broken_lines + 3 == 5
    assert after.health == before.health is not None
    assert after.health.verdict.state == "collapsed"


def test_writing_the_report_again_gives_the_same_page(run):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("COMPLETE", "a checkpoint"),
        ("SHA256SUMS", "a published backbone"),
        ("model.safetensors", "a backbone"),
    ],
)
def test_no_page_is_written_into_a_checkpoint_or_a_backbone(tmp_path, name, what):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).touch()
    before = sorted(tmp_path.iterdir())
    for read in (write_report, read_scores):
        with pytest.raises(ValueError, match=f"it is {what}.*give the run folder"):
            read(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "broken",
    [{"checkpoint": {"name": "step-00000200"}}, {"checkpoint": {"digest": "ab"}}, "none", "far"],
)
def test_a_map_that_cannot_be_drawn_is_named_and_does_not_hide_the_probes(run, broken):
    record = embedding_map(200, num_rows=3).to_json()
    if isinstance(broken, dict):
        record |= broken
    else:
        far = [[float("inf"), 0.0]] if broken == "far" else []
        drawn = {"places": far, "classes": [0] * len(far), "shown": [1.0, 0.0]}
        record["projections"]["text"] = drawn
    path = run / "maps" / "step-00000200" / "clouds.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"clouds\.json: not an embedding map.*remove it or probe"):
        read_run(run)
    assert len(read_scores(run).probes) == 2


def test_values_that_are_not_finite_are_left_out_of_a_chart():
    chart = LineChart(title="loss", series={"loss": [(1.0, 2.0), (2.0, float("nan"))]})
    assert "nan" not in draw_lines(chart)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_a_constant_series_can_be_drawn(value):
    chart = LineChart(title="flat", series={"flat": [(1.0, value), (2.0, value)]})
    assert "polyline" in draw_lines(chart)


def test_ticks_are_round_and_inside():
    assert ticks(0.0, 1.0) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [short(value) for value in (0.00025, 0.5, 1200.0, 0.0)] == ["2.5e-4", "0.5", "1.2k", "0"]

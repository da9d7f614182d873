import json
import re
import resource
from contextlib import contextmanager

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.metrics import HEALTH_FILE, Journal, JsonlSink
from pretrain.metrics.guide import PAGES
from pretrain.metrics.tensorboard import draw_views_sheet
from pretrain.objectives import Adversarial, Autoencoder, Byol

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
VALUES = {"loss/total": 1.0, "speed/samples_per_second": 9.0, "health/std_projector_text": 0.8}


@pytest.fixture
def journal(tmp_path):
    sample = {"image": PIXEL, "image_views": [PIXEL, PIXEL], "spectrogram": None}
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "views.json").write_text(json.dumps({"samples": [sample, sample]}))
    return Journal(tmp_path, total_steps=10, resumed_at=0)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_pages_that_a_person_can_read(tmp_path, journal):
    journal.write(1, VALUES)
    journal.write_embeddings(1, {"fused": (torch.randn(5, 8), list("abcde"))})
    journal.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == set(VALUES)
    assert events.Tags()["images"] == ["views/first_batch"]
    picture = events.Images("views/first_batch")[0]
    assert (picture.width, picture.height) == (6 * 128, 2 * 128)
    texts = [tag for tag in events.Tags()["tensors"] if tag.startswith("guide/")]
    assert len(texts) == len(PAGES)
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    keys = next((tmp_path / "tensorboard").rglob("metadata.tsv")).read_text()
    assert keys.split() == list("abcde")


def test_a_sheet_of_samples_that_lack_different_modalities_can_be_drawn():
    picture = {"image": PIXEL, "image_views": [PIXEL] * 2, "spectrogram": "", "sound": ""}
    sound = {"image": "", "image_views": [], "spectrogram": PIXEL, "spectrogram_views": [PIXEL] * 2}
    assert draw_views_sheet([picture, sound]).shape == (2 * 128, 6 * 128, 3)


def test_every_term_of_every_objective_is_on_a_page():
    tags = [re.compile(tag) for page in PAGES for curve in page.curves for tag in curve.tags]
    for objective in (Byol, Autoencoder, Adversarial):
        for term in objective.terms:
            assert any(tag.fullmatch(f"loss/{term}") for tag in tags), term


def test_what_the_rules_found_is_said_once_and_kept(tmp_path, journal, capsys):
    journal.write_health(1, {"loss/total": 1.0, "news": ["audio is constant."]})
    journal.write_health(2, {"loss/total": 1.0, "news": []})
    journal.close()
    assert capsys.readouterr().out == "step 1: audio is constant.\n"
    assert [record["step"] for record in lines(tmp_path / HEALTH_FILE)] == [1, 2]


# TensorBoard's thread ends with the error, which its next call tells.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_said_once_for_each_file_and_no_call_fails(tmp_path, journal, caplog):
    with files_limited_to(6000):
        for step in range(1, 101):
            journal.write(step, VALUES)
            journal.write_health(step, {"loss/total": 1.0, "words": "x" * 200, "news": []})
    journal.write(101, VALUES)  # there is room again
    journal.close()
    said = sorted(record.getMessage().split(" cannot")[0] for record in caplog.records)
    assert said == ["JsonlSink", "TensorBoardSink", "the record of health, energy or embeddings"]
    assert len(lines_before_the_cut(tmp_path / "metrics.jsonl")) > 10
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Scalars("loss/total")[-1].step == 101


@contextmanager
def files_limited_to(size):
    """No file can grow beyond so many bytes: an OSError then, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lines_before_the_cut(path):
    return [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]


def test_a_resumed_run_drops_what_was_written_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    JsonlSink(path, resumed_at=2).close()
    assert [record["step"] for record in lines(path)] == [1, 2]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "tag",
    ["loss/intra_text", "loss/cross_text_image", "loss/fused", "loss/reconstruction_text",
     "schedule/tau", "schedule/learning_rate", "schedule/weight_decay", "gradient/norm",
     "gradient/share_heads", "gradient/cosine_intra_cross_audio", "health/std_target_audio",
     "health/std_predictor_cross_text_image", "health/rank_encoder_fused",
     "health/alignment_text_audio", "health/target_follow", "health/update_fusion",
     "health/drift_text", "knn/image", "speed/samples_per_second", "data/wait_share",
     "gradient/passed_over", "speed/slowest_rank", "power/gpu_watts", "power/cpu_watts"],
)  # fmt: skip
def test_every_metric_has_one_chart_and_words(tag):
    charts = [curve for page in PAGES for curve in page.curves if curve.lines([tag])]
    assert len(charts) == 1
    assert re.search(r"\w\.$", charts[0].looks)

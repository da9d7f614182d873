"""What the card tells people to do works, in a process that has no code of ours."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file

from data_sharding.logmel import LogMelConfig
from eval.release.model_card import SECTIONS, refuse_incomplete_card
from eval.release.publish import PublishConfig, publish, verify_published
from eval.release.release_checks import SUMS_FILE, write_checksums
from pretrain.models import Embedder
from tiny_release import publish_small, write_run

NOTHING_OF_OURS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pretrain", "eval", "launch", "data_sharding"):
            raise ImportError(f"{name} is code of ours")

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def media(release):
    """The files that the card's examples name, beside the release."""
    folder = release.parent
    pixels = torch.arange(3 * 60 * 48, dtype=torch.uint8).view(60, 48, 3).numpy()
    Image.fromarray(pixels).save(folder / "frog.jpg")
    wave = 0.3 * torch.sin(torch.arange(11_025) / 9.0)
    soundfile.write(folder / "frog.wav", wave.numpy(), 22_050)
    return folder


def exchange(weights, release):
    """Another order of the largest tensor's entries, with the sums that belong to it."""
    state = load_file(weights)
    largest = max(state, key=lambda key: state[key].numel())
    changed = state[largest].flatten().flip(0).view_as(state[largest])
    save_file({**state, largest: changed}, weights, {"format": "pt"})
    write_checksums(release)


def examples(release):
    """Python blocks of the card, in order."""
    return re.findall(r"```python\n(.*?)```", (release / "README.md").read_text(), re.DOTALL)


def run_alone(code, folder):
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_cards_example_gives_the_joint_backbones_embeddings_without_code_of_ours(
    release, media
):
    joint, alone = examples(release)
    keep = "from safetensors.torch import save_file\nsave_file({'text': text_embedding, "
    keep += "'image': image_embedding, 'audio': audio_embedding}, 'alone.safetensors')\n"
    run_alone(NOTHING_OF_OURS + alone + keep, media)
    found = load_file(media / "alone.safetensors")
    ours = Embedder.load(release).encode(
        text=["a frog"], image=[media / "frog.jpg"], audio=[media / "frog.wav"]
    )
    torch.testing.assert_close(found["text"], ours.text, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["audio"], ours.audio, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found["image"], ours.image, rtol=1e-2, atol=1e-2)
    run_alone(joint + "assert texts.shape == (2, 32) and fused.shape[0] == 1\n", media)


def test_an_encoders_folder_is_verified_in_a_fresh_process(release, tmp_path):
    alone = shutil.copytree(release / "image", tmp_path / "alone")
    assert verify_published(alone).startswith("features as published")
    exchange(alone / "model.safetensors", alone)
    with pytest.raises(ValueError, match=r"not load as it should: .*: embedding features differ"):
        verify_published(alone)


@pytest.mark.parametrize("name", ["", "text", "image", "audio"])
def test_the_release_and_each_encoders_folder_can_be_verified_alone(
    release, tmp_path, name, checked_here
):
    alone = shutil.copytree(release / name, tmp_path / "alone")
    assert verify_published(alone).startswith("here, largest difference")
    config = alone / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ValueError, match=r"config\.json differs"):
        verify_published(alone)


@pytest.mark.parametrize("name", ["text", "image", "audio", "joint"])
def test_weights_that_were_exchanged_with_their_sums_are_found_by_the_reference(
    release, tmp_path, name, checked_here
):
    out = shutil.copytree(release, tmp_path / "out")
    exchange((out if name == "joint" else out / name) / "model.safetensors", out)
    with pytest.raises(ValueError, match=r"features differ.*model\.safetensors"):
        verify_published(out)


def test_an_encoders_folder_of_another_release_is_found(
    release, sample_shards, tmp_path, checked_here
):
    out = publish_small(tmp_path, sample_shards, seed=5)
    shutil.rmtree(out / "text")
    shutil.copytree(release / "text", out / "text")
    write_checksums(out)
    with pytest.raises(ValueError, match="is of another backbone"):
        verify_published(out)


def test_a_folder_without_sums_is_no_published_backbone(release, tmp_path):
    out = shutil.copytree(release / "text", tmp_path / "out")
    (out / SUMS_FILE).unlink()
    with pytest.raises(ValueError, match="no SHA256SUMS"):
        verify_published(out)
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        verify_published(tmp_path / "nowhere")


def test_the_card_is_read_back_by_the_hubs_own_reader(sample_shards, tmp_path, checked_here):
    out = publish_small(tmp_path, sample_shards, datasets=("mozilla/voices",))
    card = ModelCard((out / "README.md").read_text())
    assert card.data.license == "cc-by-4.0"
    assert card.data.datasets == ["mozilla/voices"]
    assert card.data.pipeline_tag == "feature-extraction"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_card_without_a_section_is_refused(release, section):
    text = (release / "README.md").read_text()
    refuse_incomplete_card(text, 0)
    with pytest.raises(ValueError, match=f"lacks the section '{section}'"):
        refuse_incomplete_card(text.replace(f"## {section}\n", ""), 0)


def test_a_card_whose_metadata_lack_the_licence_or_results_is_refused(release):
    text = (release / "README.md").read_text()
    with pytest.raises(ValueError, match="lacks license"):
        refuse_incomplete_card(text.replace("license: cc-by-4.0\n", ""), 0)
    with pytest.raises(ValueError, match="0 results, the reports 3"):
        refuse_incomplete_card(text, 3)


def test_training_time_is_told_by_the_rates_that_the_run_logged(
    sample_shards, tmp_path, checked_here
):
    checkpoint = write_run(tmp_path / "run", sample_shards)
    lines = [{"step": step, "speed/samples_per_second": 0.016} for step in (10, 20, 30)]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 40, "spe'
    (tmp_path / "run" / "metrics.jsonl").write_text(text)
    config = PublishConfig(licence="cc-by-4.0", without_probes=True)
    card = (publish(checkpoint, tmp_path / "out", config) / "README.md").read_text()
    assert "\n5.6 hours of steps" in card  # 20 steps of 16 samples, 1000 s each


def test_settings_of_the_spectrogram_are_those_of_the_run(release):
    settings = json.loads((release / "audio" / "log_mel.json").read_text())
    usual = LogMelConfig()
    assert settings["spectrogram"]["n_mels"] == usual.num_mels
    assert settings["clip_samples"] == usual.sample_rate_hz

import subprocess
import sys

import pytest
import torch

from data_sharding.manifest import ShardSet
from data_sharding.stats import CorpusStats
from data_sharding.stream.loader import evaluation_pass
from data_sharding.stream.order import Slice
from pretrain.models import Backbone, ImageConfig
from pretrain.models.export import export_transformers
from tiny import tiny_backbone


@pytest.fixture
def backbone(sample_shards):
    stats = CorpusStats.load(sample_shards / "stats")
    return Backbone(tiny_backbone(), stats, sample_shards / "stats" / "tokenizer.json").eval()


def a_batch(backbone, shards):
    shard_set = ShardSet.open(shards, split="probe")
    part = Slice(global_batch=4)
    return next(evaluation_pass(shard_set, backbone.decoder(), backbone.preprocess(), part))


def test_a_saved_backbone_gives_the_same_embeddings(backbone, sample_shards, tmp_path):
    backbone.save(tmp_path)
    loaded = Backbone.load(tmp_path)
    batch = a_batch(backbone, sample_shards)
    for name, value in backbone.encode(batch).by_name().items():
        torch.testing.assert_close(loaded.encode(batch).by_name()[name], value)


def test_a_random_backbone_is_the_same_for_the_same_seed_only(backbone, tmp_path):
    backbone.save(tmp_path)
    states = [Backbone.random_like(tmp_path, seed).state_dict() for seed in (0, 0, 1)]
    name = "fusion.score.text.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_a_truncated_file_is_refused_by_name(backbone, tmp_path):
    backbone.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        Backbone.load(tmp_path)


def test_a_folder_without_a_backbone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no backbone here"):
        Backbone.load(tmp_path)


def test_exported_encoders_load_with_transformers_alone(backbone, sample_shards, tmp_path):
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    export_transformers(backbone, tmp_path)
    batch = a_batch(backbone, sample_shards)
    embeddings = backbone.encode(batch)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "text")
    ids = tokenizer(batch.texts[0], truncation=True, return_tensors="pt")
    states = AutoModel.from_pretrained(tmp_path / "text").eval()(**ids).last_hidden_state
    torch.testing.assert_close(states.mean(1)[0], embeddings.text[0], rtol=1e-4, atol=1e-5)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "image")
    pixels = processor(batch.image[0, 0], do_resize=False, return_tensors="pt")
    states = AutoModel.from_pretrained(tmp_path / "image").eval()(**pixels).last_hidden_state
    torch.testing.assert_close(states[:, 1:].mean(1)[0], embeddings.image[0], rtol=1e-3, atol=1e-4)


def test_a_resnet_gives_one_embedding_per_picture(backbone, sample_shards):
    from pretrain.models.image import build_image_encoder

    encoder = build_image_encoder(ImageConfig(encoder="resnet18", size_pixels=32, width=64))
    assert encoder(torch.rand(2, 3, 32, 32)).pooled.shape == (2, 64)


def test_loading_a_backbone_needs_neither_deepspeed_nor_webdataset(backbone, tmp_path):
    backbone.save(tmp_path)
    code = (
        "import sys; from pathlib import Path; from pretrain.models import Backbone; "
        f"Backbone.load(Path({str(tmp_path)!r})); "
        "print([m for m in ('deepspeed', 'webdataset', 'submitit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

"""Exported encoders give the joint backbone's embeddings by transformers' own forward."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from data_sharding.decode import picture_pixels
from pretrain.models.export import export_transformers
from pretrain.models.exported import exported_embedding, transformers_inputs


@pytest.mark.parametrize("image", ["vit", "resnet18", "resnet50"])
def test_each_transformers_folder_gives_the_backbones_embedding(build, inputs, tmp_path, image):
    backbone = build("bert", image, "ast").eval()
    assert export_transformers(backbone, tmp_path) == ("text", "image", "audio")
    batch = inputs(frames=61)  # 0.6 s at 10 ms; the AST has positions for 64
    batch.token_mask[:, 0] = True
    with torch.no_grad():
        expected = backbone.embed(batch)
    arguments = transformers_inputs(backbone, batch)
    for name, given in arguments.items():
        alone = AutoModel.from_pretrained(tmp_path / name, use_safetensors=True)
        found = exported_embedding(alone, given)
        torch.testing.assert_close(found, expected[name].pooled, rtol=1e-4, atol=1e-5)


def test_other_encoders_have_no_transformers_folder(build, tmp_path):
    backbone = build("textcnn", "small_cnn", "audio_cnn")
    assert export_transformers(backbone, tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_and_image_processor_prepare_what_the_backbone_reads(build, tmp_path):
    backbone = build("bert", "vit", "audio_cnn")
    export_transformers(backbone, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "text")
    words = "a frog sits on a stone and it rains and rains and rains and rains"
    ids = tokenizer(words, truncation=True, return_tensors="pt")["input_ids"][0]
    wanted, _ = backbone.preprocess().tokens(backbone.decoder().tokenize(words))
    assert torch.equal(ids, wanted)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "image")
    gradient = np.linspace(0, 255, 40 * 50 * 3).reshape(40, 50, 3).astype(np.uint8)
    picture = Image.fromarray(gradient)
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"][0]
    ours = backbone.preprocess().picture(picture_pixels(picture)) / 255.0
    torch.testing.assert_close(
        pixels, (ours - backbone.image_mean) / backbone.image_std, rtol=0, atol=0.02
    )

from dataclasses import replace
from typing import get_type_hints

import pytest
import torch

from pretrain.models import AudioConfig, Backbone, ImageConfig, TextConfig
from pretrain.models.audio import AUDIO_ENCODERS
from pretrain.models.image import IMAGE_ENCODERS
from pretrain.models.text import TEXT_ENCODERS

TABLES = {TextConfig: TEXT_ENCODERS, ImageConfig: IMAGE_ENCODERS, AudioConfig: AUDIO_ENCODERS}
ENCODERS = [(config.modality, name) for config, table in TABLES.items() for name in table]
BATCH_NORMED = {"resnet18", "resnet50", "vgg16"}

every_encoder = pytest.mark.parametrize(("modality", "name"), ENCODERS)


@pytest.mark.parametrize("config", TABLES)
def test_every_encoder_that_can_be_named_can_be_built(config):
    assert set(get_type_hints(config)["encoder"].__args__) == set(TABLES[config])


@every_encoder
def test_an_encoder_gives_the_dimensions_that_it_tells(build, inputs, modality, name):
    encoded = build(name).embed(inputs())[modality]
    encoder = build(name).encoders[modality]
    assert encoded.pooled.shape == (5, encoder.embed_dim)
    assert encoded.tokens.shape[0] == 5
    assert encoded.tokens.shape[2] == encoder.token_dim
    assert encoded.token_mask.shape == encoded.tokens.shape[:2]
    assert not torch.allclose(encoded.pooled[0], encoded.pooled[1])


@every_encoder
def test_every_weight_gets_a_gradient_though_some_texts_are_empty(build, inputs, modality, name):
    backbone = build(name)
    encoded = backbone.embed(inputs())[modality]
    encoded.pooled.square().sum().backward()
    for weight_name, weight in backbone.encoders[modality].named_parameters():
        assert weight.grad is not None, weight_name
        assert weight.grad.isfinite().all(), weight_name
        # Position vectors and word vectors that no row uses, and a bias before batch norm.
        unused = weight_name.endswith(("position_embeddings", "embeddings.weight", "words.weight"))
        before_norm = name == "vgg16" and weight_name.endswith("bias")
        assert unused or before_norm or weight.grad.abs().sum() > 0, weight_name


@every_encoder
def test_rows_without_the_modality_stay_finite(build, inputs, modality, name):
    given = inputs()
    silent = torch.full_like(given.log_mel, -13.8)
    nothing = replace(
        given,
        token_mask=torch.zeros_like(given.token_mask),
        image=torch.zeros_like(given.image),
        log_mel=silent,
    )
    backbone = build(name)
    encoded = backbone.embed(nothing)[modality]
    assert encoded.pooled.isfinite().all()
    assert encoded.tokens.isfinite().all()
    encoded.pooled.sum().backward()
    for weight in backbone.encoders[modality].parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


@every_encoder
def test_an_embedding_does_not_depend_on_the_rest_of_the_batch(build, inputs, modality, name):
    backbone = build(name)
    backbone.train(name not in BATCH_NORMED)
    given = inputs()
    alone = replace(given, **{field: value[1:2] for field, value in vars(given).items()})
    whole = backbone.embed(given)[modality].pooled[1:2]
    torch.testing.assert_close(backbone.embed(alone)[modality].pooled, whole, rtol=1e-4, atol=1e-5)


@every_encoder
def test_a_saved_backbone_loads_and_embeds_alike(build, inputs, tmp_path, modality, name):
    backbone = build(name).eval()
    backbone.save(tmp_path)
    loaded = Backbone.load(tmp_path)
    assert loaded.config == backbone.config
    expected = backbone.embed(inputs())[modality].pooled
    torch.testing.assert_close(loaded.embed(inputs())[modality].pooled, expected)
    fresh = Backbone.random_like(tmp_path, seed=1).embed(inputs())[modality].pooled
    assert not torch.allclose(fresh[0], expected[0], atol=1e-4)


@pytest.mark.parametrize("name", AUDIO_ENCODERS)
@pytest.mark.parametrize("frames", [20, 37, 64, 90])
def test_clips_of_many_lengths_are_read(build, inputs, name, frames):
    assert build(name).embed(inputs(frames))["audio"].pooled.isfinite().all()


def test_the_ast_reads_a_whole_clip_as_transformers_does(build, inputs):
    backbone = build("ast").eval()
    log_mel = inputs(64).log_mel
    encoder = backbone.encoders["audio"]
    states = encoder.model(log_mel.transpose(1, 2)).last_hidden_state
    torch.testing.assert_close(encoder(log_mel).tokens, states[:, 2:])


def test_the_ast_gives_a_shorter_clip_the_first_positions(build, inputs):
    """Without attention between patches, the first ones are those of the longer clip."""
    encoder = build("ast").eval().encoders["audio"]
    for layer in encoder.model.layers:
        torch.nn.init.zeros_(layer.attention.o_proj.weight)
    log_mel = inputs(64).log_mel
    long = encoder(log_mel).tokens.unflatten(1, (5, 5))  # 5 places in mel, 5 in time
    short = encoder(log_mel[:, :, :40]).tokens.unflatten(1, (5, 3))
    torch.testing.assert_close(short, long[:, :, :3])


def test_vgg_has_the_layers_of_torchvisions():
    from torchvision.models import vgg16_bn

    from pretrain.models.image import build_image_encoder

    with torch.device("meta"):
        ours = build_image_encoder(ImageConfig(encoder="vgg16", width=512)).state_dict()
        theirs = vgg16_bn(weights=None).features.state_dict()
    sizes = {name: value.shape for name, value in theirs.items()}
    assert {n.removeprefix("features."): v.shape for n, v in ours.items()} == sizes


def test_a_resnet50_has_as_many_weights_as_torchvisions_trunk():
    from torchvision.models import resnet50

    from pretrain.models.image import build_image_encoder

    with torch.device("meta"):
        ours = build_image_encoder(ImageConfig(encoder="resnet50", width=2048))
        theirs = resnet50(weights=None)
    classifier = sum(weight.numel() for weight in theirs.fc.parameters())
    total = sum(weight.numel() for weight in theirs.parameters())
    assert sum(weight.numel() for weight in ours.parameters()) == total - classifier


def test_byol_a_has_as_many_features_as_the_papers():
    from data_sharding.logmel import LogMelConfig
    from pretrain.models.audio import build_audio_encoder

    with torch.device("meta"):
        config = AudioConfig(encoder="byol_a", width=64, embed_dim=2048)
        assert build_audio_encoder(config, LogMelConfig(num_mels=64)).embed_dim == 3072


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (TextConfig, {"hidden_size": 30, "num_heads": 4}, "text.hidden_size 30"),
        (TextConfig, {"encoder": "han", "hidden_size": 15}, "hidden_size of han must be even"),
        (TextConfig, {"encoder": "textcnn", "kernel_widths": ()}, "text.kernel_widths"),
        (ImageConfig, {"encoder": "resnet50", "width": 48}, "image.width of a resnet50"),
        (ImageConfig, {"encoder": "vgg16", "size_pixels": 24}, "image.size_pixels of a vgg16"),
        (ImageConfig, {"encoder": "small_cnn", "fixed_patch_projection": True}, "is for vit"),
        (AudioConfig, {"encoder": "ast", "embed_dim": 30}, "audio.embed_dim 30"),
        (AudioConfig, {"learning_rate_scale": 0.0}, "audio.learning_rate_scale must be positive"),
        (TextConfig, {"encoder": "lstm", "initial": "x"}, "lstm cannot start from a checkpoint"),
    ],
)
def test_nonsense_is_refused_with_the_options_name(config, values, message):
    from pathlib import Path

    if "initial" in values:
        values = values | {"initial": Path(values["initial"])}
    with pytest.raises(ValueError, match=message):
        config(**values)


def test_a_clip_of_evaluation_must_fit_the_asts_positions(build):
    with pytest.raises(ValueError, match=r"audio\.max_frames 64 is less than the 101 frames"):
        build("ast", clip_seconds=1.0)


@pytest.mark.parametrize("name", sorted(BATCH_NORMED))
def test_batch_norms_learn_float32_statistics_under_bfloat16_weights(build, inputs, name):
    """As DeepSpeed casts the online network, and as the target network casts its parameters."""
    whole, parameters_alone = (build(name).encoders["image"] for _ in range(2))
    whole.bfloat16()
    for parameter in parameters_alone.parameters():
        parameter.data = parameter.data.bfloat16()
    for encoder in (whole, parameters_alone):
        assert encoder(inputs().image.bfloat16()).pooled.isfinite().all()
        means = {n: value for n, value in encoder.named_buffers() if n.endswith("running_mean")}
        for buffer_name, value in means.items():
            assert value.dtype == torch.float32, buffer_name
            assert value.any(), buffer_name


def test_a_running_mean_follows_the_batches_through_many_bfloat16_steps():
    from pretrain.models.image.batch_norm import BatchNorm

    norm = BatchNorm(1, momentum=0.001).bfloat16()
    batch = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 3.0
    exact = torch.nn.BatchNorm2d(1, momentum=0.001)
    for _ in range(100):
        normed, expected = norm(batch.bfloat16()), exact(batch)
    torch.testing.assert_close(normed.float(), expected, rtol=0.02, atol=0.02)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, exact.running_mean, rtol=1e-2, atol=1e-3)

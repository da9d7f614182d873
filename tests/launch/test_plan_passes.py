"""What is told of passes without content is what real ones take."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from launch.plan.contentless import ATTENTION_FLOPS, LiveBytes, without_content
from launch.plan.passes import Rehearsal, pass_through
from launch.recipes import find_recipe
from pretrain.memory import NetworkSizes, Sharing, kept_bytes, passing_bytes
from pretrain.models import Backbone, ImageConfig, Views
from pretrain.models.image import build_image_encoder
from pretrain.networks import build_networks, build_objective
from tiny import tiny_pretrain

SAMPLES = 4


@pytest.fixture(scope="module")
def stats(sample_shards) -> CorpusStats:
    return CorpusStats.load(sample_shards / "stats")


@pytest.mark.parametrize(
    ("precision", "kept", "complete"),
    [("fp32", "off", True), ("fp32", "encoders", False), ("bf16", "off", False)],
)
def test_activations_and_arithmetic_are_those_of_real_passes(
    sample_shards, stats, precision, kept, complete
):
    config = tiny_pretrain(sample_shards, precision=precision, activation_checkpointing=kept)
    tokenizer = sample_shards / "stats" / TOKENIZER_FILE
    told = Rehearsal(config, stats, tokenizer).passes(SAMPLES, 2 * SAMPLES, complete)

    objective = build_objective(config, None)
    backbone = Backbone(config.backbone, stats, tokenizer)
    networks = build_networks(config, objective, backbone, fresh=True)
    if precision == "bf16":
        networks.online.bfloat16()
        for parameter in networks.target.parameters():
            parameter.data = parameter.data.bfloat16()
    memory = LiveBytes()
    with memory:
        batches = [some_batch(config, 2 * SAMPLES) for _ in range(2)]  # and the one that comes
        views = some_views(config, 2 * SAMPLES, complete)
    seen = pass_through(networks.online, networks.target, views.rows(0, SAMPLES), objective, memory)
    del batches
    assert told.flops == seen.flops
    # In bfloat16 a CPU's attention keeps its row sums in float32, as a GPU's does.
    assert told.activation_bytes == pytest.approx(seen.activation_bytes, rel=0.01)
    if precision == "fp32":
        assert told.activation_bytes == seen.activation_bytes


def test_weights_are_counted_without_being_made(sample_shards, stats):
    config = find_recipe("large").pretrain
    stats = replace(stats, vocab_size=30_522)
    entries = Rehearsal(config, stats, sample_shards / "stats" / TOKENIZER_FILE).entries()
    # Devlin et al. 2019: 110 M; its 512 positions and its pooler are not here.
    assert entries.by_part["text"] == pytest.approx(108.5e6, rel=0.002)
    # Dosovitskiy et al. 2021: 86 M.
    assert entries.by_part["image"] == pytest.approx(85.8e6, rel=0.002)
    assert entries.sizes.frozen == 768 * 3 * 16 * 16 + 768
    assert entries.sizes.online + entries.sizes.frozen == sum(entries.by_part.values())
    heads_without_target = 10 * (2 * 256 * 4096 + 3 * 4096 + 256)
    assert entries.sizes.online - entries.sizes.target == heads_without_target


def test_a_vit_takes_the_arithmetic_that_is_known_of_it():
    config = ImageConfig(size_pixels=224, width=768, num_layers=12, num_heads=12, patch_pixels=16)
    with without_content():
        encoder = build_image_encoder(config)
        with FlopCounterMode(display=False, custom_mapping=ATTENTION_FLOPS) as counter:
            encoder(torch.zeros(1, 3, 224, 224))
    # 17.6 G multiply-adds (DeiT's table and torchvision's), each of them two operations.
    assert counter.get_total_flops() == pytest.approx(2 * 17.58e9, rel=0.01)


@pytest.mark.parametrize(
    ("stage", "fp32", "bf16"), [(0, 16, 20), (1, 14, 12), (2, 14, 12), (3, 20, 14)]
)
def test_bytes_a_weight_are_those_that_were_measured_on_two_ranks(stage, fp32, bf16):
    sizes = NetworkSizes(online=1000, target=1000)
    found = [
        kept_bytes(sizes, Sharing(zero_stage=stage, precision=precision, ranks=2)).total / 1000
        for precision in ("fp32", "bf16")
    ]
    assert found == [fp32, bf16]


def test_more_ranks_and_higher_stages_keep_less():
    sizes = NetworkSizes(online=300_000_000, target=280_000_000)
    by_stage = [
        kept_bytes(sizes, Sharing(zero_stage=stage, precision="bf16", ranks=32)).total
        for stage in (0, 1, 3)
    ]
    assert by_stage == sorted(by_stage, reverse=True)
    sharing = Sharing(zero_stage=1, precision="bf16", ranks=32)
    activations = [passing_bytes(sizes, sharing, size) for size in (0.0, 1e10)]
    assert activations[1] == 1e10 + 2 * 300_000_000 + 2 * 50_000_000
    assert activations[0] >= 2 * 300_000_000


def some_batch(config, samples: int) -> list[torch.Tensor]:
    side = config.backbone.image.size_pixels
    pictures = torch.randint(0, 256, (samples, 2, 3, side, side), dtype=torch.uint8)
    return [pictures, torch.randn(samples, 2, round(config.views.audio.crop_seconds * 16_000))]


def some_views(config, samples: int, complete: bool) -> Views:
    side = config.backbone.image.size_pixels
    tokens = (2, samples, config.backbone.text.max_tokens)
    frames = round(config.views.audio.crop_seconds * 16_000) // 160 + 1
    mask = torch.zeros(tokens, dtype=torch.bool)
    mask[:, :, :3] = True
    pictures = torch.bfloat16 if config.precision == "bf16" else torch.float32
    return Views(
        token_ids=torch.zeros(tokens, dtype=torch.int64),
        token_mask=mask,
        image=torch.rand(2, samples, 3, side, side, dtype=pictures),
        log_mel=torch.randn(2, samples, 64, frames),
        present=torch.ones(samples, 3, dtype=torch.bool),
        subset=torch.ones(2, samples, 3, dtype=torch.bool),
        complete=complete,
    )

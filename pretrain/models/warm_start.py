"""Towers that start from a local transformers checkpoint, and towers that do not learn.

Only safetensors are read: nothing is ever unpickled. A saved backbone needs none of this.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    ASTModel,
    BertModel,
    PretrainedConfig,
    PreTrainedModel,
    ResNetModel,
    ViTModel,
)
from transformers.utils import logging as transformers_logging

from data_sharding.checkpoint_tokenizer import checkpoint_tokenizer, has_tokenizer
from pretrain.models.audio.ast import first_columns
from pretrain.models.backbone import Backbone
from pretrain.models.image.resnet import LAYOUTS

State = dict[str, Tensor]
TRANSFORMER_CONSTANTS = ("intermediate_size", "hidden_act", "layer_norm_eps")
"""What has no option here: the MLP is four times as wide, with GELU, and eps is 1e-12."""


def warm_start(backbone: Backbone) -> tuple[str, ...]:
    """Fill the towers that have an ``initial`` folder with its weights; at a fresh start only.

    Returns:
        The modalities that were filled.

    Raises:
        ValueError: The folder holds no such checkpoint, or one of another architecture; with
            the options to set.
    """
    filled = []
    for name, tower in backbone.config.towers.items():
        if tower.initial is not None:
            model_class, read_state = WARM_STARTS[tower.encoder]
            checkpoint = _pretrained(model_class, tower.initial, f"{name}.encoder {tower.encoder}")
            state = read_state(backbone, checkpoint, tower.initial)
            _model_of(backbone, name).load_state_dict(state)
            filled.append(name)
    return tuple(filled)


def freeze(backbone: Backbone) -> None:
    """No gradient for the towers that are ``frozen``; at every start, before the optimizer."""
    for name, tower in backbone.config.towers.items():
        if tower.frozen:
            backbone.encoders[name].requires_grad_(False)


def _bert_state(backbone: Backbone, checkpoint: PreTrainedModel, folder: Path) -> State:
    """Positions cut to ``max_tokens``, and the first token type alone."""
    theirs, config = checkpoint.config, backbone.config.text
    options = {
        "text.hidden-size": (theirs.hidden_size, config.hidden_size),
        "text.num-layers": (theirs.num_hidden_layers, config.num_layers),
        "text.num-heads": (theirs.num_attention_heads, config.num_heads),
        "text.max-tokens": _at_most(theirs.max_position_embeddings, config.max_tokens),
    }
    _refuse_other(folder, options)
    _refuse_constants(folder, theirs, _model_of(backbone, "text").config, TRANSFORMER_CONSTANTS)
    _refuse_other_vocabulary(backbone, theirs.vocab_size, folder)
    kept = {"position_embeddings": config.max_tokens, "token_type_embeddings": 1}
    state = dict(checkpoint.state_dict())
    for name, rows in kept.items():
        state[f"embeddings.{name}.weight"] = state[f"embeddings.{name}.weight"][:rows]
    return state


def _vit_state(backbone: Backbone, checkpoint: PreTrainedModel, folder: Path) -> State:
    """Positions interpolated to the configured image size."""
    theirs, config = checkpoint.config, backbone.config.image
    ours = _model_of(backbone, "image").config
    options = {
        "image.width": (theirs.hidden_size, config.width),
        "image.num-layers": (theirs.num_hidden_layers, config.num_layers),
        "image.num-heads": (theirs.num_attention_heads, config.num_heads),
        "image.patch-pixels": (theirs.patch_size, config.patch_pixels),
    }
    _refuse_other(folder, options)
    _refuse_constants(folder, theirs, ours, (*TRANSFORMER_CONSTANTS, "qkv_bias", "num_channels"))
    state = dict(checkpoint.state_dict())
    name = "embeddings.position_embeddings"
    state[name] = resized_positions(state[name], config.size_pixels // config.patch_pixels)
    return state


def _resnet_state(backbone: Backbone, checkpoint: PreTrainedModel, folder: Path) -> State:
    theirs, config = checkpoint.config, backbone.config.image
    ours = _model_of(backbone, "image").config
    layout = (theirs.layer_type, list(theirs.depths))
    names = [name for name, (*known, _) in LAYOUTS.items() if tuple(known) == layout]
    if not names:
        raise ValueError(f"{folder}: a ResNet of {layout[1]} {layout[0]} blocks is not among ours")
    options = {
        "image.encoder": (names[0], config.encoder),
        "image.width": (theirs.hidden_sizes[-1], config.width),
    }
    _refuse_other(folder, options)
    constants = ("hidden_act", "downsample_in_first_stage", "downsample_in_bottleneck")
    sizes = ("hidden_sizes", "embedding_size", "num_channels")
    _refuse_constants(folder, theirs, ours, (*constants, *sizes))
    return dict(checkpoint.state_dict())


def _ast_state(backbone: Backbone, checkpoint: PreTrainedModel, folder: Path) -> State:
    """Positions of the first frames."""
    theirs, config = checkpoint.config, backbone.config.audio
    model = _model_of(backbone, "audio")
    options = {
        "audio.embed-dim": (theirs.hidden_size, config.embed_dim),
        "audio.num-layers": (theirs.num_hidden_layers, config.num_layers),
        "audio.num-heads": (theirs.num_attention_heads, config.num_heads),
        "audio.patch-bins": (theirs.patch_size, config.patch_bins),
        "audio.patch-stride": (theirs.time_stride, config.patch_stride),
        "audio.max-frames": _at_most(theirs.max_length, config.max_frames),
    }
    _refuse_other(folder, options)
    if theirs.num_mel_bins != backbone.stats.log_mel.num_mels:
        raise ValueError(
            f"{folder}: reads {theirs.num_mel_bins} mel channels, and the statistics have "
            f"{backbone.stats.log_mel.num_mels}; make them anew: triptych stats SHARDS "
            f"--log-mel.num-mels {theirs.num_mel_bins}"
        )
    constants = (*TRANSFORMER_CONSTANTS, "qkv_bias", "frequency_stride")
    _refuse_constants(folder, theirs, model.config, constants)
    assert isinstance(model, ASTModel)
    num_rows, num_columns = model.embeddings.get_shape(model.config)
    state = dict(checkpoint.state_dict())
    name = "embeddings.position_embeddings"
    state[name] = first_columns(state[name], num_rows, num_columns)
    return state


WARM_STARTS: Mapping[
    str,
    tuple[type[PreTrainedModel], Callable[[Backbone, PreTrainedModel, Path], State]],
] = {
    "bert": (BertModel, _bert_state),
    "vit": (ViTModel, _vit_state),
    "resnet18": (ResNetModel, _resnet_state),
    "resnet50": (ResNetModel, _resnet_state),
    "ast": (ASTModel, _ast_state),
}
"""By encoder: the class that reads the checkpoint, and what turns it into the tower's state."""


def resized_positions(
    positions: Float[Tensor, "1 position embed"], side: int
) -> Float[Tensor, "1 resized embed"]:
    """Position embeddings of a square of ``side`` patches a side, [CLS] before them.

    Bicubic, as transformers does for pictures of another size.
    """
    special, grid = positions[:, :1], positions[:, 1:]
    old_side = round(grid.shape[1] ** 0.5)
    if old_side == side:
        return positions
    square = grid.unflatten(1, (old_side, old_side)).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([special, resized.flatten(2).transpose(1, 2)], dim=1)


def _pretrained(model_class: type[PreTrainedModel], folder: Path, purpose: str) -> PreTrainedModel:
    """The checkpoint in float32, without a pooler.

    Raises:
        ValueError: No safetensors, another kind of model, or weights missing from it.
    """
    assert model_class.config_class is not None
    kind = model_class.config_class.model_type
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: no transformers checkpoint here: {error}") from error
    if found != kind:
        raise ValueError(f"{folder}: holds a {found}; {purpose} starts from a {kind}")
    wanted: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    if model_class in (BertModel, ViTModel):
        wanted["add_pooling_layer"] = False
    transformers_logging.disable_progress_bar()  # it counts tensors, for a second
    try:
        loaded: Any = model_class.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, **wanted
        )
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder}: its safetensors cannot be loaded: {reason}") from error
    finally:
        transformers_logging.enable_progress_bar()
    model, info = loaded
    if info["missing_keys"]:
        raise ValueError(f"{folder}: lacks the weights {sorted(info['missing_keys'])[0]}")
    return model


def _model_of(backbone: Backbone, name: str) -> PreTrainedModel:
    model = backbone.encoders[name].model
    assert isinstance(model, PreTrainedModel)
    return model


def _at_most(theirs: int, ours: int) -> tuple[int, int]:
    """A pair that differs only where more is asked for than the checkpoint has."""
    return theirs, max(theirs, ours)


def _refuse_other(folder: Path, options: Mapping[str, tuple[Any, Any]]) -> None:
    needed = {name: theirs for name, (theirs, ours) in options.items() if theirs != ours}
    if needed:
        settings = " ".join(f"--pretrain.backbone.{name} {value}" for name, value in needed.items())
        raise ValueError(f"{folder}: another architecture than is configured; set {settings}")


def _refuse_constants(
    folder: Path, theirs: PretrainedConfig, ours: PretrainedConfig, names: Sequence[str]
) -> None:
    for name in names:
        needed, fixed = getattr(theirs, name), getattr(ours, name)
        if needed != fixed:
            raise ValueError(
                f"{folder}: its {name} is {needed}; here it is {fixed}, and no option changes that"
            )


def _refuse_other_vocabulary(backbone: Backbone, rows: int, folder: Path) -> None:
    """Word vectors are worth nothing under other ids than those they were trained for."""
    ours = Tokenizer.from_str(backbone.tokenizer_file.read_text(encoding="utf-8"))
    differs = backbone.stats.vocab_size != rows
    if not differs and has_tokenizer(folder):
        differs = checkpoint_tokenizer(folder).get_vocab() != ours.get_vocab()
    if differs:
        raise ValueError(
            f"{folder}: has word vectors for {rows} ids of its own tokenizer, and the statistics "
            f"another one of {backbone.stats.vocab_size}; make them anew: triptych stats SHARDS "
            f"--tokenizer {folder}"
        )

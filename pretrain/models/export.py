"""Per modality a folder that transformers' Auto classes load with no code of ours."""

import copy
import json
from pathlib import Path

from transformers import ASTModel, PreTrainedModel, PreTrainedTokenizerFast, ViTImageProcessor

from data_sharding.logmel import POWER_FLOOR
from pretrain.models.audio.ast import first_columns
from pretrain.models.audio.config import num_frames
from pretrain.models.backbone import Backbone
from pretrain.models.exported import exportable

LOG_MEL_FILE = "log_mel.json"


def export_transformers(backbone: Backbone, folder: Path) -> tuple[str, ...]:
    """Write a sub-folder for each encoder that is a transformers class; returns their modalities.

    ``AutoModel``, ``AutoTokenizer`` and ``AutoImageProcessor`` load them. No feature extractor of
    transformers computes the spectrogram that an AST was trained on: they put a floor under the
    mel power where ours adds one. So it comes with ``log_mel.json``, the settings for
    torchaudio's `MelSpectrogram`, and takes clips of exactly the backbone's length. Other
    encoders are part of the joint backbone alone.
    """
    models = exportable(backbone)
    for name, model in models.items():
        kept = _for_clips(model, backbone) if isinstance(model, ASTModel) else model
        kept.save_pretrained(folder / name)
    if "text" in models:
        _save_tokenizer(backbone, folder / "text")
    if "image" in models:
        _save_image_processor(backbone, folder / "image")
    if "audio" in models:
        _save_log_mel(backbone, folder / "audio")
    return tuple(models)


def _for_clips(model: ASTModel, backbone: Backbone) -> PreTrainedModel:
    """The AST with the positions of the backbone's clips alone.

    transformers' forward adds all positions that there are; ours takes the first of them.
    """
    config = copy.deepcopy(model.config)
    config.max_length = num_frames(backbone.config.audio.clip_seconds, backbone.stats.log_mel)
    short = ASTModel(config)
    num_rows, num_columns = short.embeddings.get_shape(config)
    state = dict(model.state_dict())
    name = "embeddings.position_embeddings"
    state[name] = first_columns(state[name], num_rows, num_columns)
    short.load_state_dict(state)
    return short.eval()


def _save_tokenizer(backbone: Backbone, folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(backbone.tokenizer_file),
        model_max_length=backbone.config.text.max_tokens,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(folder)


def _save_image_processor(backbone: Backbone, folder: Path) -> None:
    size = backbone.config.image.size_pixels
    processor = ViTImageProcessor(
        size={"height": size, "width": size},
        image_mean=list(backbone.stats.image_mean),
        image_std=list(backbone.stats.image_std),
    )
    processor.save_pretrained(folder)


def _save_log_mel(backbone: Backbone, folder: Path) -> None:
    stats, config = backbone.stats, backbone.preprocess().config
    settings = {
        "spectrogram": {
            "sample_rate": stats.log_mel.sample_rate_hz,
            "n_fft": stats.log_mel.n_fft,
            "hop_length": stats.log_mel.hop_samples,
            "n_mels": stats.log_mel.num_mels,
            "f_min": stats.log_mel.f_min_hz,
            "f_max": stats.log_mel.f_max_hz,
        },
        "clip_samples": config.clip_samples,
        "power_floor": POWER_FLOOR,
        "mean": stats.mel_mean,
        "std": stats.mel_std,
    }
    (folder / LOG_MEL_FILE).write_text(json.dumps(settings, indent=2) + "\n")

"""A sheet of samples with the views that training makes of them, for the report."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from data_sharding.batch import SampleTransform, TripleBatch
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.loader import evaluation_pass
from data_sharding.logmel import LogMel
from data_sharding.manifest import ShardSet
from data_sharding.stats import CorpusStats
from pretrain.build import train_crops
from pretrain.config import PretrainConfig
from pretrain.models import Views, preprocess_for
from pretrain.views import Augment

NUM_SAMPLES = 8


def write_views_sheet(config: PretrainConfig, run: Path) -> Path:
    """Write ``run/views/views.json``: some samples of the train split and their two views.

    The pictures are PNG data URIs, so that the page made from them is self-contained.
    """
    stats = CorpusStats.load(config.data.shards / "stats")
    originals = _first_batch(config, preprocess_for(config.backbone, stats))
    crops = _first_batch(config, train_crops(config, stats))
    log_mel = LogMel(stats.log_mel)
    views = Augment(config.views, log_mel, config.seed)(crops)
    spectrograms = log_mel(originals.waveform[:, 0])
    tokenizer = Tokenizer.from_file(str(_tokenizer_file(config)))
    samples = [
        {
            "key": key,
            "text": originals.texts[row],
            "image": _picture(originals.image[row, 0] / 255.0),
            "spectrogram": _spectrogram(spectrograms[row]),
            **_view_record(views, row, tokenizer),
        }
        for row, key in enumerate(originals.keys)
    ]
    path = run / "views" / "views.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"samples": samples}))
    return path


def _view_record(views: Views, row: int, tokenizer: Tokenizer) -> dict[str, Any]:
    texts = [
        tokenizer.decode(ids[mask].tolist(), skip_special_tokens=False)
        for ids, mask in zip(views.token_ids[:, row], views.token_mask[:, row], strict=True)
    ]
    return {
        "text_views": [text.replace("[CLS] ", "").replace(" [SEP]", "") for text in texts],
        "image_views": [_picture(image) for image in views.image[:, row]],
        "spectrogram_views": [_spectrogram(clip) for clip in views.log_mel[:, row]],
    }


def _first_batch(config: PretrainConfig, transform: SampleTransform) -> TripleBatch:
    shard_set = ShardSet.open(config.data.shards, split=config.data.split)
    stats = CorpusStats.load(config.data.shards / "stats")
    decoder = Decoder(
        _tokenizer_file(config), DecodeConfig(sample_rate_hz=stats.log_mel.sample_rate_hz)
    )
    return next(evaluation_pass(shard_set, decoder, transform, NUM_SAMPLES))


def _tokenizer_file(config: PretrainConfig) -> Path:
    return config.data.shards / "stats" / "tokenizer.json"


def _picture(image: Float[Tensor, "3 height width"]) -> str:
    return _png(image.permute(1, 2, 0).numpy())


def _spectrogram(log_mel: Float[Tensor, "mel frame"]) -> str:
    """Low bands at the bottom; the colours span the clip's own range."""
    values = log_mel.flip(0).numpy()
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-6)
    return _png(np.asarray(colormaps["magma"](scaled))[..., :3])


def _png(pixels: Float[np.ndarray, "height width 3"]) -> str:
    stream = io.BytesIO()
    Image.fromarray((pixels * 255.0).round().astype(np.uint8)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

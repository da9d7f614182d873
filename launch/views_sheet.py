"""A sheet of samples with the views that training makes of them, for the report."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from matplotlib import colormaps
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from data_sharding.batch import SampleTransform, TripleBatch
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.logmel import LogMel
from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from data_sharding.stream.loader import TripleLoader
from data_sharding.stream.order import Slice
from data_sharding.stream.source import open_stream
from pretrain.config import PretrainConfig
from pretrain.models import Views, preprocess_for
from pretrain.views import Augment, TrainCrops

NUM_SAMPLES = 8


def write_views_sheet(config: PretrainConfig, run: Path) -> Path:
    """Write ``run/views/views.json``: some samples of the run's first batch and their two views.

    The pictures are PNG data URIs, so that the page made from them is self-contained.
    """
    stats = CorpusStats.load(config.data.stats_folder)
    tokenizer = Tokenizer.from_file(str(_tokenizer_file(config)))
    sample_rate_hz = stats.log_mel.sample_rate_hz
    decoder = Decoder(_tokenizer_file(config), DecodeConfig(sample_rate_hz=sample_rate_hz))
    cut = TrainCrops.from_configs(config.views, config.backbone, sample_rate_hz, config.seed)
    originals = _first_batch(config, decoder, preprocess_for(config.backbone, stats))
    crops = _first_batch(config, decoder, cut)
    log_mel = LogMel(stats.log_mel)
    views = Augment(config.views, log_mel, config.seed)(crops)
    samples = []
    for row in range(0, len(originals), max(1, len(originals) // NUM_SAMPLES)):
        token_ids = originals.token_ids[row][originals.token_mask[row]]
        samples.append(
            {
                "key": originals.keys[row],
                "text": _text(tokenizer, token_ids),
                "image": _picture(originals.image[row, 0] / 255.0),
                "spectrogram": _spectrogram(log_mel(originals.waveform[row, 0])),
                **_view_record(views, row, tokenizer),
            }
        )
    path = run / "views" / "views.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"samples": samples[:NUM_SAMPLES]}))
    return path


def _view_record(views: Views, row: int, tokenizer: Tokenizer) -> dict[str, Any]:
    pairs = zip(views.token_ids[:, row], views.token_mask[:, row], strict=True)
    return {
        "text_views": [_text(tokenizer, ids[mask]) for ids, mask in pairs],
        "image_views": [_picture(image) for image in views.image[:, row]],
        "spectrogram_views": [_spectrogram(clip) for clip in views.log_mel[:, row]],
    }


def _first_batch(
    config: PretrainConfig, decoder: Decoder, transform: SampleTransform
) -> TripleBatch:
    """The first global batch of the run, each sample cut by ``transform``."""
    loader = TripleLoader(
        open_stream(config.data.shards, config.data.split),
        decoder,
        transform,
        Slice(global_batch=config.batch.global_samples),
        replace(config.data.loader, num_workers=0),
    )
    return next(loader.batches(0))


def _tokenizer_file(config: PretrainConfig) -> Path:
    return config.data.stats_folder / TOKENIZER_FILE


def _text(tokenizer: Tokenizer, token_ids: Int64[Tensor, " token"]) -> str:
    """Words with [MASK] where a view has one, without [CLS] and [SEP]."""
    text = tokenizer.decode(token_ids.tolist(), skip_special_tokens=False)
    return text.replace("[CLS]", "").replace("[SEP]", "").strip()


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

"""Pixels, token ids and log-mels in; one embedding per modality and a fused one out.

`Backbone` is what gets published: it loads with torch, transformers and safetensors alone.
`Embedder` is the same for ordinary inputs: texts, pictures, recordings.
This package must not know: DeepSpeed, webdataset, the objective, how views are made.
"""

from pretrain.models.architecture import BackboneConfig
from pretrain.models.audio import AudioConfig
from pretrain.models.backbone import Backbone, Embeddings, preprocess_for
from pretrain.models.cohorts import Cohorts
from pretrain.models.embedder import Embedder
from pretrain.models.encoded import Encoded
from pretrain.models.fusion import FusionConfig
from pretrain.models.heads import GroupedMlpHead, HeadConfig, SourceHeads
from pretrain.models.image import ImageConfig
from pretrain.models.inputs import ModelInputs, Views
from pretrain.models.preprocess import Preprocess, PreprocessConfig
from pretrain.models.text import TextConfig

__all__ = [
    "AudioConfig",
    "Backbone",
    "BackboneConfig",
    "Cohorts",
    "Embedder",
    "Embeddings",
    "Encoded",
    "FusionConfig",
    "GroupedMlpHead",
    "HeadConfig",
    "ImageConfig",
    "ModelInputs",
    "Preprocess",
    "PreprocessConfig",
    "SourceHeads",
    "TextConfig",
    "Views",
    "preprocess_for",
]

"""One encoder as a transformers folder gives it back: which outputs are its embedding."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from pretrain.models.audio.ast import NUM_SPECIAL
from pretrain.models.backbone import Backbone
from pretrain.models.inputs import ModelInputs

LEADING_STATES: Mapping[str, int] = {"vit": 1, "audio-spectrogram-transformer": NUM_SPECIAL}
"""By model type: states before the patches, which are no part of the embedding."""


def exportable(backbone: Backbone) -> dict[str, PreTrainedModel]:
    """By modality, the encoders that are transformers classes."""
    models = {name: getattr(encoder, "model", None) for name, encoder in backbone.encoders.items()}
    return {name: model for name, model in models.items() if isinstance(model, PreTrainedModel)}


def transformers_inputs(backbone: Backbone, inputs: ModelInputs) -> dict[str, dict[str, Tensor]]:
    """What the exported encoders are called with, by modality and argument."""
    read = backbone.read_by_encoders(inputs)
    token_ids, token_mask = read["text"]
    (image,), (log_mel,) = read["image"], read["audio"]
    return {
        "text": {"input_ids": token_ids, "attention_mask": token_mask.long()},
        "image": {"pixel_values": image},
        "audio": {"input_values": log_mel.transpose(1, 2)},
    }


@torch.no_grad()
def exported_embedding(
    model: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> Float[Tensor, "batch embed"]:
    """The embedding that the joint backbone's encoder gives, from transformers' own forward.

    A text needs a token at least.
    """
    output = model(**inputs)
    kind = model.config.model_type
    if kind == "resnet":
        return output.pooler_output.flatten(1)
    states = output.last_hidden_state
    if kind == "bert":
        weights = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)
    return states[:, LEADING_STATES[kind] :].mean(1)

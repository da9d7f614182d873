"""Per modality a folder that transformers' Auto classes load with no code of ours."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast, ViTImageProcessor

from pretrain.models.backbone import Backbone


def export_transformers(backbone: Backbone, folder: Path) -> tuple[str, ...]:
    """Write a sub-folder for each encoder that is a transformers class; returns their modalities.

    ``AutoModel``, ``AutoTokenizer`` and ``AutoImageProcessor`` load them. An AST comes without
    a feature extractor: transformers' own computes another spectrogram than the one it was
    trained on. Other encoders are part of the joint backbone alone.
    """
    written = []
    for name, encoder in backbone.encoders.items():
        model = getattr(encoder, "model", None)
        if isinstance(model, PreTrainedModel):
            model.save_pretrained(folder / name, safe_serialization=True)
            written.append(name)
    if "text" in written:
        _save_tokenizer(backbone, folder / "text")
    if "image" in written:
        _save_image_processor(backbone, folder / "image")
    return tuple(written)


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

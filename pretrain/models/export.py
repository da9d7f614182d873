"""Per modality a folder that transformers' Auto classes load with no code of ours."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast, ViTImageProcessor

from pretrain.models.backbone import Backbone


def export_transformers(backbone: Backbone, folder: Path) -> tuple[str, ...]:
    """Write ``folder/text`` and ``folder/image``; returns the modalities written.

    ``AutoModel``, ``AutoTokenizer`` and ``AutoImageProcessor`` load them. The audio encoder
    is no transformers class and is part of the joint backbone alone.
    """
    written = []
    for name in ("text", "image"):
        model = backbone.encoders[name].model
        assert isinstance(model, PreTrainedModel)
        model.save_pretrained(folder / name, safe_serialization=True)
        written.append(name)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(backbone.tokenizer_file),
        model_max_length=backbone.config.text.max_tokens,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(folder / "text")
    size = backbone.config.image.size_pixels
    processor = ViTImageProcessor(
        size={"height": size, "width": size},
        image_mean=list(backbone.stats.image_mean),
        image_std=list(backbone.stats.image_std),
    )
    processor.save_pretrained(folder / "image")
    return tuple(written)

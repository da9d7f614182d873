"""Choice and sizes of the text encoder."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pretrain.models.tower import TowerConfig


@dataclass(frozen=True, kw_only=True)
class TextConfig(TowerConfig):
    """The text encoder: its kind, its sizes, and where it starts."""

    modality: ClassVar[str] = "text"
    warm_encoders: ClassVar[tuple[str, ...]] = ("bert",)

    encoder: Literal["bert", "lstm", "textcnn", "han"] = "bert"
    """`bert`: transformers' BertModel, mean over its tokens (Devlin et al. 2019). `lstm`: last
    hidden state (Hochreiter & Schmidhuber 1997). `textcnn`: convolutions of several widths,
    maximum over the text (Kim 2014). `han`: attention over words, then over sentences (Yang et
    al. 2016)."""

    hidden_size: int = 128
    """bert: width. lstm: of word vectors and state. textcnn: of word vectors. han: of word
    vectors and of both GRU directions together (even). The dimension of the embedding, except
    for textcnn."""

    num_layers: int = 2
    """bert: transformer blocks. lstm: layers."""

    num_heads: int = 4
    """bert: attention heads; divides the width."""

    max_tokens: int = 32
    """Longest text in tokens, [CLS] and [SEP] included; longer ones are cut."""

    kernel_widths: tuple[int, ...] = (3, 4, 5)
    """textcnn: widths of the convolutions, in tokens."""

    num_filters: int = 100
    """textcnn: filters of each width; the embedding has this many times the widths."""

    max_sentences: int = 4
    """han: sentences of a text that are read; what comes after them is left out."""

    max_sentence_tokens: int = 16
    """han: tokens of a sentence; a longer one is cut into several."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden_size", "num_layers", "num_heads", "num_filters", "max_sentences"):
            self.require(getattr(self, name) >= 1, f"{name} must be positive")
        self.require(self.max_tokens >= 3, f"max_tokens must be at least 3, got {self.max_tokens}")
        self.require(
            self.encoder != "bert" or self.hidden_size % self.num_heads == 0,
            f"hidden_size {self.hidden_size} is not a multiple of text.num_heads {self.num_heads}",
        )
        self.require(
            bool(self.kernel_widths) and min(self.kernel_widths) >= 1,
            f"kernel_widths must be one or more positive widths, got {self.kernel_widths}",
        )
        self.require(
            self.encoder != "han" or self.hidden_size % 2 == 0,
            f"hidden_size of han must be even, got {self.hidden_size}",
        )
        self.require(
            self.max_sentence_tokens >= 1,
            f"max_sentence_tokens must be positive, got {self.max_sentence_tokens}",
        )

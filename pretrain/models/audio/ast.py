"""AST: a transformer over patches of the spectrogram."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.audio.config import AudioConfig
from pretrain.models.encoded import Encoded, Encoder

NUM_SPECIAL = 2
"""[CLS] and the distillation token, which come before the patches."""


class AstAudio(Encoder):
    """AST with the mean of its patch states as embedding; no dropout.

    Positions belong to places of a grid of mel channels and frames. A clip shorter than
    ``max_frames`` has the grid's first columns, as the paper cuts positions; a longer one is
    cut. transformers' own forward takes clips of exactly ``max_frames`` frames.

    Source: Gong et al. 2021, arXiv 2104.01778.
    """

    def __init__(self, config: AudioConfig, num_mels: int) -> None:
        # Imported late: it takes seconds, and most commands make no encoder.
        from transformers import ASTConfig, ASTModel

        super().__init__()
        self.embed_dim = self.token_dim = config.embed_dim
        self.max_frames = config.max_frames
        self._side, self._stride = config.patch_bins, config.patch_stride
        self._num_rows = (num_mels - self._side) // self._stride + 1
        self.model = ASTModel(
            ASTConfig(
                hidden_size=config.embed_dim,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=4 * config.embed_dim,
                patch_size=config.patch_bins,
                frequency_stride=config.patch_stride,
                time_stride=config.patch_stride,
                max_length=config.max_frames,
                num_mel_bins=num_mels,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        # transformers leaves them at zero, for a checkpoint to fill: patches without a place.
        nn.init.trunc_normal_(self.model.embeddings.position_embeddings, std=0.02)

    def forward(self, log_mel: Float[Tensor, "batch mel frame"]) -> Encoded:
        """Mean over patches; clips of any length from one patch on."""
        embeddings = self.model.embeddings
        frames = log_mel[:, :, : self.max_frames].transpose(1, 2)
        num_columns = (frames.shape[1] - self._side) // self._stride + 1
        special = torch.cat([embeddings.cls_token, embeddings.distillation_token], dim=1)
        states = torch.cat(
            [special.expand(frames.shape[0], -1, -1), embeddings.patch_embeddings(frames)], dim=1
        ) + first_columns(embeddings.position_embeddings, self._num_rows, num_columns)
        for layer in self.model.layers:
            states = layer(states)
        patches = self.model.layernorm(states)[:, NUM_SPECIAL:]
        return Encoded.of_whole(patches.mean(1), patches)


def first_columns(
    positions: Float[Tensor, "1 position embed"], num_rows: int, num_columns: int
) -> Float[Tensor, "1 part embed"]:
    """Positions of a clip with ``num_columns`` patches in time, special tokens before them.

    Args:
        positions: Of the longest clip: the special tokens, then row by row of the grid.
        num_rows: Patches from the lowest to the highest mel channel.
        num_columns: At most the grid's.
    """
    special, grid = positions[:, :NUM_SPECIAL], positions[:, NUM_SPECIAL:]
    kept = grid.unflatten(1, (num_rows, -1))[:, :, :num_columns]
    return torch.cat([special, kept.flatten(1, 2)], dim=1)

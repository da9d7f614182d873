"""Fusion by graph convolution: the modalities of a sample are nodes that hear each other."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded
from pretrain.models.fusion.config import FusionConfig
from pretrain.models.fusion.layers import masked_mean, reduce_layers


class GraphFusion(nn.Module):
    """``h_i^(l) = relu(sum_j 1/c_ij h_j^(l-1) W^(l))`` over available nodes, then their mean.

    ``1/c_ij = a_ij / sqrt(d_i d_j)`` with a_ij the symmetric edge weights, self-loops
    included, and ``d_i = sum_j a_ij``. The edge weights are learned and start at 1: with equal
    weights between all, every node would hold the same from the first layer on, and more
    layers would be a plain multi-layer network.

    Source: Kipf & Welling 2017, arXiv 1609.02907, equation 2; a weighted adjacency matrix is
    their section 2.
    """

    def __init__(self, encoder_dims: Mapping[str, tuple[int, int]], config: FusionConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.reduce = reduce_layers(
            {name: embed_dim for name, (embed_dim, _) in encoder_dims.items()}, config.embed_dim
        )
        self.edges = nn.Parameter(torch.zeros(len(encoder_dims), len(encoder_dims)))
        layers = [
            nn.Linear(config.embed_dim, config.embed_dim, bias=False)
            for _ in range(config.num_layers)
        ]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        encoded: Mapping[str, Encoded],
        available: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch embed"]:
        """Fused embedding; zeros for a row with no modality at all.

        Args:
            encoded: By modality, in the order of the columns of ``available``.
            available: True where a modality of a row may be used.
        """
        reduced = [self.reduce[name](value.pooled) for name, value in encoded.items()]
        nodes = torch.stack(reduced, dim=1)  # [batch, modality, embed]
        shares = self.normalised_edges(available).to(nodes.dtype)
        for layer in self.layers:
            nodes = F.relu(shares @ layer(nodes))
        return masked_mean(nodes, available)

    def normalised_edges(
        self, available: Bool[Tensor, "batch modality"]
    ) -> Float[Tensor, "batch modality modality"]:
        """``1/c_ij`` in float32; 0 where a node is missing."""
        both = available.unsqueeze(1) & available.unsqueeze(2)
        logits = self.edges.float()
        weights = (logits + logits.T).exp() * both
        # A missing node has degree 0; all its edges are 0 as well.
        scale = weights.sum(2).clamp(min=1e-6).rsqrt()  # [batch, modality]
        return scale.unsqueeze(2) * weights * scale.unsqueeze(1)

"""Signals of collapse in embeddings, per modality and per stage, never pooled over modalities."""

from collections.abc import Callable, Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from data_sharding.schema import MODALITIES

Stages = Mapping[str, Mapping[str, Float[Tensor, "view _ _"]]]
"""Stage -> source -> embeddings, as `LossReport.stages`; sources may differ in their rows."""


def embedding_std(embeddings: Float[Tensor, "*batch embed"]) -> float:
    """Mean std per dimension of unit vectors, times sqrt(embed): 1 isotropic, 0 one point.

    Source: Chen & He 2021, arXiv 2011.10566, section 4.1.
    """
    rows = F.normalize(embeddings.detach().float().flatten(0, -2), dim=-1)
    return float(rows.std(0).mean() * rows.shape[-1] ** 0.5)


def effective_rank(embeddings: Float[Tensor, "*batch embed"]) -> float:
    """RankMe: exp of the entropy of the normalised singular values, in [1, embed].

    Source: Garrido et al. 2023, arXiv 2210.02885, equation 2.
    """
    rows = embeddings.detach().float().flatten(0, -2)
    singular = torch.linalg.svdvals(rows)
    share = singular / singular.sum() + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def alpha_req(embeddings: Float[Tensor, "*batch embed"]) -> float:
    """Alpha of the power law ``i ** -alpha`` that the covariance's eigenvalues follow.

    About 1 is the healthy middle; far above, few directions carry everything; near 0, all
    directions are alike, as in noise. Least squares over the logarithms, without the upper half
    of the ranks, which few rows estimate badly. NaN where fewer than four ranks are left.

    Source: Agrawal et al. 2022, "alpha-ReQ: Assessing Representation Quality in Self-Supervised
    Learning by measuring eigenspectrum decay", NeurIPS 2022, section 3.
    """
    rows = embeddings.detach().float().flatten(0, -2)
    eigenvalues = torch.linalg.svdvals(rows - rows.mean(0)).square()
    eigenvalues = eigenvalues[: max(0, (min(rows.shape[0] - 1, rows.shape[1]) + 1) // 2)]
    eigenvalues = eigenvalues[eigenvalues > 1e-9 * eigenvalues.sum()]
    if len(eigenvalues) < 4:
        return float("nan")
    x = torch.arange(1, len(eigenvalues) + 1, device=rows.device).float().log()
    y = eigenvalues.log()
    centred = x - x.mean()
    return -float((centred * y).sum() / centred.square().sum())


def paired_and_shuffled(
    first: Float[Tensor, "view batch embed"], second: Float[Tensor, "view batch embed"]
) -> tuple[float, float]:
    """Mean cosine of rows that belong together, and of those that do not.

    Args:
        first: Row b of view v belongs to row b of view v of ``second``.
        second: The other side.

    Returns:
        NaN twice where there are fewer than two rows.
    """
    a, b = (F.normalize(rows.detach().float(), dim=-1) for rows in (first, second))
    cosines = a @ b.transpose(1, 2)  # [view, batch, batch]
    num_rows = cosines.shape[1]
    if num_rows < 2:
        return float("nan"), float("nan")
    paired = cosines.diagonal(dim1=1, dim2=2).sum(1)
    shuffled = (cosines.sum((1, 2)) - paired) / (num_rows * (num_rows - 1))
    return float((paired / num_rows).mean()), float(shuffled.mean())


def separation(embeddings: Float[Tensor, "view batch embed"]) -> float:
    """How far two views tell whose they are: (paired - shuffled) / (1 - shuffled) cosine.

    1 where both views of a sample agree and samples differ, 0 where two views of one sample are
    no more alike than two samples: then nothing of the sample is left, only the views' noise.
    """
    paired, shuffled = paired_and_shuffled(embeddings, embeddings.flip(0))
    return (paired - shuffled) / max(1.0 - shuffled, 1e-7)


MEASURES: dict[str, Callable[[Tensor], float]] = {"std": embedding_std, "rank": effective_rank}
ENCODER_MEASURES: dict[str, Callable[[Tensor], float]] = {
    "alpha": alpha_req,
    "separation": separation,
}


def rows_with(source: str, present: Bool[Tensor, "batch 3"]) -> Bool[Tensor, " batch"]:
    """Rows that have every modality that a source or term names; any one for ``fused``."""
    named = [index for index, name in enumerate(MODALITIES) if name in source.split("_")]
    return present[:, named].all(1) if named else present.any(1)


def only_present(stages: Stages, present: Bool[Tensor, "batch 3"]) -> Stages:
    """The stages without rows whose modality is missing: their embeddings mean nothing."""
    return {
        stage: {
            source: rows[:, rows_with(source, present).to(rows.device)]
            for source, rows in by_source.items()
        }
        for stage, by_source in stages.items()
    }


def stage_signals(stages: Stages) -> dict[str, float]:
    """Std and RankMe of each source at each stage, and alpha-ReQ and separation of encoders.

    NaN where fewer than two samples have the modality, or an embedding is not finite.
    """
    signals = {}
    for stage, by_source in stages.items():
        for source, rows in by_source.items():
            measures = MEASURES | ENCODER_MEASURES if stage == "encoder" else MEASURES
            for name, measure in measures.items():
                enough = rows.shape[1] >= 2 and bool(rows.isfinite().all())
                value = measure(rows) if enough else float("nan")
                signals[f"health/{name}_{stage}_{source}"] = value
    return signals


def alignment_signals(stages: Stages, present: Bool[Tensor, "batch 3"]) -> dict[str, float]:
    """Paired minus shuffled cosine of each pair of modalities, in [-2, 2].

    Between what is predicted for a modality and the target's projection of its other view, both
    directions averaged; an objective without predictions has none.
    """
    signals = {}
    for a, b in combinations(MODALITIES, 2):
        both = rows_with(f"{a}_{b}", present)
        sides = [
            (first[:, both.to(first.device)], second[:, both.to(first.device)])
            for first, second in _sides(stages, a, b)
        ]
        if sides:
            gaps = [paired_and_shuffled(first, second) for first, second in sides]
            mean = sum(paired - shuffled for paired, shuffled in gaps) / len(gaps)
            signals[f"health/alignment_{a}_{b}"] = mean
    return signals


def _sides(stages: Stages, a: str, b: str) -> list[tuple[Tensor, Tensor]]:
    predicted, targets = stages.get("predictor", {}), stages.get("target", {})
    return [
        (predicted[f"cross_{source}_{target}"], targets[target].flip(0))
        for source, target in ((a, b), (b, a))
        if f"cross_{source}_{target}" in predicted and target in targets
    ]

"""Modalities left out of training samples: how many, never all, and of fusions alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_finetune import QUICK

from eval.finetune import fine_tune
from eval.finetune.losses import drop_modalities

HAS = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])


@pytest.mark.parametrize("chance", [0.3, 0.9])
def test_a_sample_loses_only_what_it_has_and_never_all(chance):
    torch.manual_seed(0)
    count = 20_000
    for has in HAS:
        left = drop_modalities(has.expand(count, 3), chance)
        assert not (left & ~has).any()
        assert left.any(1).all()
        size = int(has.sum())
        # Each stays with 1 - p, or as the one of its sample's that is spared.
        expected = (1.0 - chance) + chance**size / size
        shares = left.double().mean(0)[has]
        assert (shares - expected).abs().max() < 0.02  # five deviations of 20,000 draws


def test_without_the_option_nothing_is_drawn():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert drop_modalities(HAS, 0.0) is HAS
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fusion_trained_so_answers_better_from_one_modality(backbone, inputs, problem):
    """Texts and pictures both tell the label, so a model may come to lean on one of them."""
    config = replace(QUICK, epochs=6, dropout=0.0)
    plain, dropped = (
        fine_tune(backbone, inputs, problem, "fused", replace(config, modality_dropout=chance))
        for chance in (0.0, 0.5)
    )
    worst = [
        min(found.scores.macro_f1 for found in one.result.masked.values())
        for one in (plain, dropped)
    ]
    assert worst[1] > worst[0] + 0.1
    assert dropped.result.scores.macro_f1 > 0.9


def test_a_representation_of_one_modality_is_trained_as_without_it(backbone, inputs, problem):
    config = replace(QUICK, epochs=2)
    for name in ("text", "fused_text"):
        one, other = (
            fine_tune(backbone, inputs, problem, name, replace(config, modality_dropout=chance))
            for chance in (0.0, 0.5)
        )
        assert one.result.curve == other.result.curve
        assert np.array_equal(one.result.predicted, other.result.predicted)

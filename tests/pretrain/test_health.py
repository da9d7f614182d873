import pytest
import torch

from pretrain.health import collapsed, effective_rank, embedding_std, health_signals


def test_isotropic_embeddings_are_healthy():
    rows = torch.randn(2, 2048, 64)
    assert embedding_std(rows) == pytest.approx(1.0, abs=0.02)
    assert effective_rank(rows) > 60


def test_one_point_is_a_collapse_of_its_own_modality_only():
    point = torch.ones(2, 256, 64) + 1e-4 * torch.randn(2, 256, 64)
    signals = health_signals({"projector": {"audio": point, "text": torch.randn(2, 256, 64)}})
    assert collapsed(signals) == ["health/std_projector_audio"]


def test_a_subspace_keeps_its_std_but_not_its_rank():
    rows = torch.randn(2048, 8) @ torch.linalg.qr(torch.randn(64, 8)).Q.T
    assert embedding_std(rows) > 0.9
    assert effective_rank(rows) < 9

"""`pretrain.kernels`: the fused kernels or their twins, as a run asks for them."""

import os
from dataclasses import replace

import pytest

from launch.local import run_local
from launch.run_config import prepare_run
from pretrain.config import BatchConfig
from pretrain.views import ImageViewConfig, ViewsConfig
from tiny import losses, tiny_backbone, tiny_run
from warm_ranks import run_warm

SHORT = {"total_steps": 3, "checkpoint_every_steps": 3, "batch": BatchConfig(global_samples=8)}


def test_a_run_with_fused_kernels_has_the_losses_of_their_twins(
    tmp_path, sample_shards, monkeypatch
):
    monkeypatch.setitem(os.environ, "TRITON_INTERPRET", "1")
    # A rank that is started anew: Triton looks at the variable when it is imported.
    for kernels, run_ranks in (("fused", run_local), ("reference", run_warm)):
        prepare_run(
            tiny_run(tmp_path / kernels, sample_shards, kernels=kernels, **SHORT), resume=False
        )
        assert run_ranks(tmp_path / kernels, 1) == 0
    fused, reference = losses(tmp_path / "fused"), losses(tmp_path / "reference")
    assert sorted(fused) == [1, 2, 3]
    for step, loss in reference.items():
        assert fused[step] == pytest.approx(loss, rel=1e-5), step
        assert fused[step] != 0.0


def test_fused_kernels_are_refused_where_there_is_no_gpu(tmp_path, sample_shards, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="kernels fused needs a GPU"):
        prepare_run(tiny_run(tmp_path / "run", sample_shards, kernels="fused"), resume=False)
    assert not (tmp_path / "run").exists()


def test_compiled_views_of_sound_are_refused_without_a_gpu(tmp_path, sample_shards):
    run = tiny_run(tmp_path / "run", sample_shards, compile="all")
    run.pretrain.check_kernels(on_gpu=True)
    with pytest.raises(ValueError, match=r"compile all needs a GPU.*ask for encoders"):
        run.pretrain.check_kernels(on_gpu=False)


def test_a_run_on_gpus_is_refused_pictures_that_the_kernel_has_no_way_for(tmp_path, sample_shards):
    views = ViewsConfig(image=ImageViewConfig(blur_probability=(1.0, 0.1), blur_kernel_share=0.3))
    image = replace(tiny_backbone().image, size_pixels=224)
    run = tiny_run(
        tmp_path / "run",
        sample_shards,
        views=views,
        backbone=replace(tiny_backbone(), image=image),
    )
    run.pretrain.check_kernels(on_gpu=False)
    with pytest.raises(ValueError, match="got 67 for 224 x 224"):
        run.pretrain.check_kernels(on_gpu=True)
    replace(run.pretrain, kernels="reference").check_kernels(on_gpu=True)
    replace(run.pretrain, views=ViewsConfig()).check_kernels(on_gpu=True)

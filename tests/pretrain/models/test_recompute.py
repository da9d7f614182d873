import pytest
import torch

CHOICES = [("bert", "vit", "ast"), ("han", "resnet18", "audio_gru"), ("lstm", "vgg16", "byol_a")]


def gradients_of(backbone, inputs):
    encoded = backbone.train().embed(inputs)
    sum(value.pooled.square().mean() for value in encoded.values()).backward()
    return {name: p.grad for name, p in backbone.encoders.named_parameters()}


@pytest.mark.parametrize("names", CHOICES)
def test_recomputed_activations_give_the_same_gradients_and_statistics(build, inputs, names):
    plain, sparing = build(*names), build(*names)
    sparing.enable_activation_checkpointing()
    expected = gradients_of(plain, inputs())
    for name, gradient in gradients_of(sparing, inputs()).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
    running = {n: b for n, b in plain.named_buffers() if "running" in n}
    for name, buffer in sparing.named_buffers():
        if name in running:
            torch.testing.assert_close(buffer, running[name], msg=name)


@pytest.mark.parametrize("names", CHOICES)
def test_recomputing_keeps_fewer_activations(build, inputs, names):
    kept = {}
    for sparing in (False, True):
        backbone = build(*names).train()
        if sparing:
            backbone.enable_activation_checkpointing()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda value, sizes=sizes: sizes.append(value.numel()) or value, lambda value: value
        ):
            encoded = backbone.embed(inputs())
        kept[sparing] = sum(sizes)
        del encoded
    assert kept[True] < 0.6 * kept[False]

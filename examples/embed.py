"""Texts, pictures and recordings of one's own, from a published backbone."""

from pretrain.models import Embedder

embedder = Embedder.load("backbone")  # device="cuda" for a GPU
frogs = embedder.encode_text(["a small green frog", "o broască verde"])  # [2, dim]
photos = embedder.encode_image(["frog.jpg", "street.png"])  # paths, PIL images or bytes
sounds = embedder.encode_audio(["frog.wav"])  # paths, bytes or (waveform, rate_hz)
both = embedder.encode(
    text=["a small green frog", None], image=["frog.jpg", "street.png"]
)  # any modalities; None where a sample lacks one
print(both.fused.shape, both.present.tolist())

"""A tiny backbone with a real tokenizer, without shards."""

import pytest
import torch

from data_sharding.logmel import LogMelConfig
from data_sharding.schema import MODALITIES
from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from data_sharding.vocabulary import VocabularyConfig, train_tokenizer
from pretrain.models import Backbone, Views
from tiny import tiny_backbone

TEXTS = ("a dog barks at the moon", "the cat sleeps on a warm stone", "rain falls on the sea")


@pytest.fixture(scope="session")
def stats_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stats")
    tokenizer = train_tokenizer(TEXTS * 4, VocabularyConfig(vocab_size=120))
    tokenizer.save(str(folder / TOKENIZER_FILE))
    CorpusStats(
        image_mean=(0.4, 0.5, 0.6),
        image_std=(0.2, 0.25, 0.3),
        mel_mean=-5.0,
        mel_std=3.0,
        vocab_size=tokenizer.get_vocab_size(),
        num_samples=3,
        log_mel=LogMelConfig(),
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def make_backbone(stats_folder):
    def make():
        torch.manual_seed(0)
        stats = CorpusStats.load(stats_folder)
        return Backbone(tiny_backbone(), stats, stats_folder / TOKENIZER_FILE)

    return make


@pytest.fixture
def backbone(make_backbone):
    return make_backbone()


@pytest.fixture(scope="session")
def make_views():
    """Views of random content; ``subsets`` says, sample by sample, which modalities it has."""

    def make(subsets, seed=0):
        generator = torch.Generator().manual_seed(seed)
        present = torch.tensor(subsets, dtype=torch.bool).reshape(-1, len(MODALITIES))
        batch = len(present)
        subset = present & (torch.rand(2, batch, 3, generator=generator) < 0.7)
        subset |= present & ~subset.any(-1, keepdim=True)
        lengths = torch.randint(3, 17, (2, batch, 1), generator=generator)
        mask = torch.arange(16) < lengths
        ids = torch.randint(4, 60, (2, batch, 16), generator=generator)
        return Views(
            token_ids=ids * mask,
            token_mask=mask,
            image=torch.rand(2, batch, 3, 32, 32, generator=generator),
            log_mel=3.0 * torch.randn(2, batch, 64, 32, generator=generator) - 5.0,
            present=present,
            subset=subset,
        )

    return make

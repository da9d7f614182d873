"""TripleBatch in, two augmented views per modality out.

Loader workers cut crops and change texts, sample by sample (`TrainCrops`); everything else
happens to the whole batch, on the device where it lies (`Augment`). Every draw is a function of
(seed, epoch, sample, view, modality): a resumed run, or one on other hardware, sees the same
views. This package knows no model's weights.
"""

from pretrain.views.audio import AudioViewConfig
from pretrain.views.augment import Augment, SubsetConfig, ViewsConfig
from pretrain.views.crops import TrainCrops
from pretrain.views.image import ImageViewConfig
from pretrain.views.natural import NaturalViewConfig
from pretrain.views.photometric import blur_side
from pretrain.views.text import TextViewConfig
from pretrain.views.vocabulary import TextVocabulary

__all__ = [
    "AudioViewConfig",
    "Augment",
    "ImageViewConfig",
    "NaturalViewConfig",
    "SubsetConfig",
    "TextViewConfig",
    "TextVocabulary",
    "TrainCrops",
    "ViewsConfig",
    "blur_side",
]

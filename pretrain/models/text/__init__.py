"""Token ids and their mask -> one embedding per text, by the encoder that is named.

Real tokens come first in a row and padding after them. This package must not know: how text
views are made, the other modalities.
"""

from pretrain.models.text.bert import BertText
from pretrain.models.text.config import TextConfig
from pretrain.models.text.han import HanText
from pretrain.models.text.lstm import LstmText
from pretrain.models.text.textcnn import TextCnn
from pretrain.models.text.vocabulary import Vocabulary

TEXT_ENCODERS = {"bert": BertText, "lstm": LstmText, "textcnn": TextCnn, "han": HanText}
"""By the name in `TextConfig.encoder`."""


def build_text_encoder(
    config: TextConfig, vocabulary: Vocabulary
) -> BertText | LstmText | TextCnn | HanText:
    """The encoder that ``config.encoder`` names, with fresh weights."""
    return TEXT_ENCODERS[config.encoder](config, vocabulary)


__all__ = ["TEXT_ENCODERS", "BertText", "TextConfig", "Vocabulary", "build_text_encoder"]

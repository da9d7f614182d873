"""Text -> the text that a sample keeps: one Unicode form, no control characters, no odd length."""

import unicodedata

from data_sharding.cleaning.config import CleanConfig
from data_sharding.schema import Rejection

KEPT_CONTROLS = "\t\n\r"
CONTROLS = {
    code: None
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in KEPT_CONTROLS
}  # fmt: skip
"""Unicode category Cc but for tab and line ends, as a table for ``str.translate``.

Marks of writing direction and joiners are no controls: right-to-left text and emoji need them.
"""


def clean_text(text: str | None, config: CleanConfig) -> str | None:
    """The text in its final form; None where nothing but space is left.

    Raises:
        Rejection: ``invalid-utf8``, ``control-characters``, ``text-too-short`` or
            ``text-too-long``.
    """
    if not text:
        return None
    if len(text) > 4 * config.max_text_characters:  # before any work on 10 MB of it
        raise Rejection("text-too-long", f"{len(text)} characters")
    text = _without_controls(text, config)
    if config.text_form != "none":
        text = unicodedata.normalize(config.text_form, text)
    text = text.strip()
    _check_length(text, config)
    return text or None


def _without_controls(text: str, config: CleanConfig) -> str:
    if text.isprintable():
        return text
    plain = text.translate(CONTROLS)
    if plain != text and config.control_characters == "reject":
        odd = next(sign for sign in text if ord(sign) in CONTROLS)
        raise Rejection("control-characters", f"U+{ord(odd):04X} at character {text.index(odd)}")
    return plain


def _check_length(text: str, config: CleanConfig) -> None:
    try:
        num_bytes = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise Rejection("invalid-utf8", f"half a character at {error.start}") from error
    if num_bytes > config.max_text_bytes:
        limit = f"the limit is {config.max_text_bytes}"
        raise Rejection("text-too-long", f"{num_bytes} bytes, {limit}")
    if len(text) > config.max_text_characters:
        limit = f"the limit is {config.max_text_characters}"
        raise Rejection("text-too-long", f"{len(text)} characters, {limit}")
    if 0 < len(text) < config.min_text_characters:
        limit = f"the least is {config.min_text_characters}"
        raise Rejection("text-too-short", f"{len(text)} characters, {limit}")

"""Members of one sample, found side by side -> a record: for folders and tars."""

from collections.abc import Mapping

from data_sharding.schema import ALTERNATIVES, MODALITIES, PARTS, Medium, Record, Rejection
from data_sharding.sources.fields import parse_json, record_or_rejection

MAX_INLINE_BYTES = 16 * 1024 * 1024
"""Texts and JSON cards are read with the plan; larger ones are refused."""
RESERVED = (*MODALITIES, "split", *ALTERNATIVES)
"""Keys of a foreign card that only count where the columns map them."""


def refuse_media_columns(columns: Mapping[str, str], what: str) -> None:
    """In folders and tars a picture or recording is a member, never a path inside a card.

    Raises:
        ValueError: `columns` maps image or audio.
    """
    for name in ("image", "audio"):
        if name in columns:
            raise ValueError(f"source.columns maps {name}, but {what} holds its files themselves")


def build_record(
    key: str,
    small: Mapping[str, bytes],
    media: Mapping[str, Medium],
    number: int,
    columns: Mapping[str, str],
) -> Record | Rejection:
    """One sample's record.

    Args:
        key: Its name; becomes its id where its card has none.
        small: Contents of its text and card, suffix -> bytes.
        media: Where its picture and recording lie, suffix -> place.
        number: Its number, from 1.
        columns: Our name -> key of the card.
    """
    try:
        texts = {PARTS[suffix]: content.decode("utf-8-sig") for suffix, content in small.items()}
    except UnicodeDecodeError as error:
        return Rejection("invalid-utf8", f"{key!r}: byte {error.start} is not UTF-8")
    card = parse_json(texts["card"]) if "card" in texts else {}
    if isinstance(card, Rejection):
        return Rejection(card.reason, f"the JSON of {key!r}: {card.detail}")
    mapped = set(columns.values())
    # A foreign key with the name of a field is metadata: "text" may be an OCR result.
    fields = {
        f"metadata.{name}" if name in RESERVED and name not in mapped else name: value
        for name, value in card.items()
    }
    # What the columns map is looked up first, so that a member called txt can take its place.
    found = {name: fields.get(column) for name, column in columns.items()}
    own = {PARTS[suffix]: place for suffix, place in media.items()}
    rest = {name: value for name, value in fields.items() if name not in mapped}
    text = texts.get("text") or found.get("text")
    others = {part: content for part, content in texts.items() if part.startswith("text.")}
    named = {**rest, **found, **own, **others, "text": text}
    named["id"] = named.get("id") or key
    return record_or_rejection(named, number, {})

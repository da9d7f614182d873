"""The kind of a picture or recording by its first bytes, whatever its file is called."""

ID3_HEADER = 10
"""An ID3v2 tag begins with so many bytes; four of them hold its size, seven bits each."""


def image_suffix(encoded: bytes) -> str | None:
    """``jpg``, ``png`` or ``webp``; None for anything else."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP" else None


def audio_suffix(encoded: bytes) -> str | None:
    """``flac``, ``wav``, ``ogg`` or ``mp3``; None for anything else."""
    start = _end_of_id3(encoded)
    magic = encoded[start : start + 4]
    if magic == b"fLaC":
        return "flac"
    if magic == b"OggS":
        return "ogg"
    if magic == b"RIFF" and encoded[start + 8 : start + 12] == b"WAVE":
        return "wav"
    frame_sync = len(magic) > 1 and magic[0] == 0xFF and magic[1] & 0xE0 == 0xE0
    return "mp3" if frame_sync or start else None


def _end_of_id3(encoded: bytes) -> int:
    """Where the content begins: after an ID3v2 tag, if there is one."""
    if encoded[:3] != b"ID3" or len(encoded) < ID3_HEADER:
        return 0
    size = 0
    for byte in encoded[6:ID3_HEADER]:
        size = size << 7 | byte & 0x7F
    return ID3_HEADER + size

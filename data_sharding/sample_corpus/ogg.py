"""Give an Ogg stream a fixed serial number, so that equal sound is equal bytes."""


def crc_of_byte(byte: int) -> int:
    """What one byte adds to the CRC of an Ogg page."""
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


CRC_OF_BYTE = tuple(map(crc_of_byte, range(256)))


def ogg_checksum(page: bytes | bytearray) -> int:
    """The CRC of RFC 3533: polynomial 0x04c11db7, no reflection, start and end 0."""
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ CRC_OF_BYTE[crc >> 24 ^ byte]
    return crc


def with_fixed_serial(ogg: bytes) -> bytes:
    """The Ogg stream with serial number 0: libsndfile draws one from the clock."""
    pages, start = [], 0
    while start < len(ogg):
        segments = ogg[start + 26]
        header = start + 27 + segments
        end = header + sum(ogg[start + 27 : header])
        page = bytearray(ogg[start:end])
        page[14:18] = page[22:26] = bytes(4)
        page[22:26] = ogg_checksum(page).to_bytes(4, "little")
        pages.append(bytes(page))
        start = end
    return b"".join(pages)

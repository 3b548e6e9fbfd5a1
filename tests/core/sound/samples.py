"""Recordings made by hand, byte by byte as their specifications say; silent, but well-formed."""

import struct


def wave(milliseconds: int, *, size: int | None = None, extra: bytes = b"") -> bytes:
    """16-bit mono at 8 kHz. `size`: what the data chunk claims."""
    data = b"\0" * (milliseconds * 16)
    form = struct.pack("<HHIIHH", 1, 1, 8_000, 16_000, 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + extra
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def mpeg(frames: int) -> bytes:
    """MPEG 1 layer III, 128 kbit/s at 44.1 kHz: 1,152 samples in 417 bytes a frame."""
    return (b"\xff\xfb\x90\x00" + b"\0" * 413) * frames


def adts(frames: int) -> bytes:
    """AAC at 44.1 kHz: 1,024 samples in 100 bytes a frame."""
    size = 100
    head = bytes(
        [0xFF, 0xF1, 0x50, 0x80 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC]
    )
    return (head + b"\0" * (size - 7)) * frames


def flac(samples: int, size: int = 1_000) -> bytes:
    """16-bit stereo at 44.1 kHz."""
    fields = 44_100 << 44 | 1 << 41 | 15 << 36 | samples
    block = struct.pack(">HH", 4096, 4096) + bytes(6) + fields.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80" + len(block).to_bytes(3, "big") + block + b"\0" * size


def page(position: int, content: bytes, *, flags: int = 0, serial: int = 7) -> bytes:
    """One page of Ogg."""
    table = bytes([255] * (len(content) // 255) + [len(content) % 255])
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, position, serial, 0, 0)
    return head + bytes([len(table)]) + table + content


OPUS = b"OpusHead\x01\x01" + struct.pack("<HIhB", 312, 48_000, 0, 0)
VORBIS = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, 44_100, 0, 128_000, 0, 0xB8, 1)
SPEEX = b"Speex   " + b"1.2".ljust(20, b"\0") + struct.pack("<III", 1, 80, 16_000) + b"\0" * 20
FLAC_IN_OGG = b"\x7fFLAC\x01\x00\x00\x01" + flac(0, 0)


def ogg(head: bytes, position: int, pages: int = 3) -> bytes:
    """One stream whose last page reaches `position`."""
    body = [page(position * number // pages, b"\0" * 700) for number in range(1, pages + 1)]
    return page(0, head, flags=2) + page(0, b"OpusTags") + b"".join(body)


def box(name: bytes, content: bytes, *, long: bool = False) -> bytes:
    """One box of MP4."""
    if long:
        return struct.pack(">I4sQ", 1, name, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, name) + content


def mvhd(scale: int, duration: int, *, long: bool = False) -> bytes:
    """A movie header."""
    if long:
        return box(b"mvhd", b"\x01\0\0\0" + struct.pack(">QQIQ", 0, 0, scale, duration) + bytes(80))
    return box(b"mvhd", bytes(4) + struct.pack(">IIII", 0, 0, scale, duration) + bytes(80))


def mp4(duration: int, *, scale: int = 1_000, last: bool = False, long: bool = False) -> bytes:
    """A file with its movie header before or after (`last`) the sound."""
    sound = box(b"mdat", b"\0" * 5_000, long=long)
    movie = box(b"moov", mvhd(scale, duration, long=long) + box(b"trak", b"\0" * 300))
    parts = [sound, movie] if last else [movie, box(b"free", b""), sound]
    return box(b"ftyp", b"M4A \0\0\0\0") + b"".join(parts)


def element(name: bytes, content: bytes, *, unknown: bool = False) -> bytes:
    """One element of EBML, with a size of 8 bytes."""
    size = b"\x01" + (b"\xff" * 7 if unknown else len(content).to_bytes(7, "big"))
    return name + size + content


def matroska(
    declared: float | None, blocks: tuple[tuple[int, int], ...], *, scale: int | None = 1_000_000
) -> bytes:
    """Clusters at the first number of `blocks`, each with a block at the second after that."""
    info = b"" if scale is None else element(b"\x2a\xd7\xb1", scale.to_bytes(3, "big"))
    if declared is not None:
        info += element(b"\x44\x89", struct.pack(">d", declared))
    clusters = b""
    for number, (time, relative) in enumerate(blocks):
        block = b"\x81" + struct.pack(">hB", relative, 0x80) + b"\0" * 90
        inner = element(b"\xa3", block) if number % 2 else element(b"\xa0", element(b"\xa1", block))
        clusters += element(
            b"\x1f\x43\xb6\x75",
            element(b"\xe7", bytes([time >> 8, time & 255])) + inner,
            unknown=True,
        )
    head = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"webm"))
    body = element(b"\x15\x49\xa9\x66", info) + element(b"\x16\x54\xae\x6b", b"\0" * 40) + clusters
    return head + element(b"\x18\x53\x80\x67", body, unknown=True)


def length(walker: object, body: bytes, size: int) -> int | None:
    """Feed `body` to something that measures it, in pieces of `size`."""
    for start in range(0, len(body), size):
        walker.feed(body[start : start + size])  # type: ignore[attr-defined]
    result: int | None = walker.milliseconds()  # type: ignore[attr-defined]
    return result

"""How the server and a query's process talk over a pair of connected sockets: kind, length, content."""

from __future__ import annotations

import os
import struct

READY, JOB, CHUNK, DONE, FAILED = b"R", b"J", b"C", b"D", b"X"
_HEAD = struct.Struct("!cI")
HEAD_BYTES = _HEAD.size


def write_frame(descriptor: int, kind: bytes, content: bytes | memoryview = b"") -> None:
    """Write one frame whole; plain writes, which is all that a locked down process may do."""
    os.write(descriptor, head(kind, len(content)))
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_frame(descriptor: int) -> tuple[bytes, bytes]:
    """Read one frame.

    Raises:
        EOFError: the other side is gone.
    """
    kind, length = _HEAD.unpack(read_exactly(descriptor, HEAD_BYTES))
    return kind, read_exactly(descriptor, length)


def head(kind: bytes, length: int) -> bytes:
    """What stands before a frame's content."""
    return _HEAD.pack(kind, length)


def parse_head(head: bytes) -> tuple[bytes, int]:
    """Kind and length of the content that follows."""
    kind, length = _HEAD.unpack(head)
    return kind, length


def read_exactly(descriptor: int, length: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: the other side is gone.
    """
    parts = []
    while length:
        part = os.read(descriptor, min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)

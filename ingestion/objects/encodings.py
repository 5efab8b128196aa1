"""Text of any declared encoding -> UTF-8, block by block, without losing or replacing a byte that is no character.

Everything behind this reads UTF-8. A byte that the declared encoding has no character for - and half of a surrogate
pair - becomes a sequence that is no UTF-8 either (the lone surrogate U+DC00 + byte), so the record it is in is set
apart there like any broken one, and no other is. The same sequences say which bytes stood there before:
:meth:`Transcoder.original_bytes` counts what a piece of the text takes in its object.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from common.errors import ObjectCorrupt

_MARKS = {
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-16-le": ((codecs.BOM_UTF16_LE, "utf-16-le"),),
    "utf-16-be": ((codecs.BOM_UTF16_BE, "utf-16-be"),),
    "utf-8": ((codecs.BOM_UTF8, "utf-8"),),
}
_KEPT = "penstock_kept"
_KEPT_CHARACTER = re.compile("[\udc00-\udcff]")


def _keep(error: UnicodeError) -> tuple[str, int]:
    """Undecodable bytes as lone surrogates."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_KEPT, _keep)


class Transcoder:
    """One object's text on its way to UTF-8. Drain :meth:`utf8` before asking for anything else.

    Args:
        codec: Python's name of the declared encoding.
        key: the object, for error messages.
    """

    def __init__(self, codec: str, key: str) -> None:
        self._codec = codec
        self._key = key
        self.mark_bytes = 0

    def utf8(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The text in UTF-8, without its byte order mark.

        Raises:
            ObjectCorrupt: the encoding asks for a byte order mark and there is none.
        """
        head = b""
        for block in blocks:
            head += block
            if len(head) >= 4:
                break
        for mark, codec in _MARKS.get(self._codec, ()):
            if head.startswith(mark):
                self.mark_bytes, self._codec = len(mark), codec
                break
        if self._codec == "utf-16":
            if head:
                raise ObjectCorrupt(
                    f"{self._key} is declared {self._codec} and does not begin with a byte order mark.",
                    remedy=f"declare 'encoding: {self._codec}-le' or '{self._codec}-be', or what it really is",
                )
            return
        head = head[self.mark_bytes :]
        if self._codec == "utf-8":
            yield head
            yield from blocks
            return
        decoder = codecs.getincrementaldecoder(self._codec)(_KEPT)
        yield decoder.decode(head).encode("utf-8", "surrogatepass")
        for block in blocks:
            yield decoder.decode(block).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")

    @property
    def is_utf8(self) -> bool:
        """Whether the text has its bytes still."""
        return self._codec == "utf-8"

    @property
    def encoding(self) -> str:
        """The encoding, for people."""
        return self._codec.upper()

    def original_bytes(self, text: str) -> int:
        """How many bytes this part of the text takes in the object."""
        plain, kept = _KEPT_CHARACTER.subn("", text)
        return len(plain.encode(self._codec)) + kept

    def shown(self, utf8: bytes) -> str:
        r"""This part of the text for people, bytes that are no character written as ``\xff``."""
        if self._codec == "utf-8":
            return utf8.decode("utf-8", "backslashreplace")
        text = utf8.decode("utf-8", "surrogatepass")
        return _KEPT_CHARACTER.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)

    def kept_bytes(self, utf8: bytes) -> bytes | None:
        """The bytes of this part of the text as its object has them, if some are no character; else None."""
        if self._codec == "utf-8":
            return None if _is_utf8(utf8) else utf8
        text = utf8.decode("utf-8", "surrogatepass")
        if not _KEPT_CHARACTER.search(text):
            return None
        pieces = re.split(f"({_KEPT_CHARACTER.pattern})", text)
        return b"".join(
            bytes([ord(piece) - 0xDC00]) if _KEPT_CHARACTER.fullmatch(piece) else piece.encode(self._codec)
            for piece in pieces
        )


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True

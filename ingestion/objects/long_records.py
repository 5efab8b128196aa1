"""Where a CSV record ends that is too long to be kept: its quotes are followed strictly, and none of it is remembered.

Whether a quoted value that goes on and on is a long value or a quote that somebody forgot to close, only what comes
behind its next quote can tell: a delimiter or the end of a line closes a value; anything else closes none, and then
nobody can say where the next record begins. Python's ``csv`` says the same of shorter records
(``tests/property/test_long_records.py``).
"""

from __future__ import annotations

from enum import Enum, auto


class _State(Enum):
    BEGINS = auto()
    PLAIN = auto()
    QUOTED = auto()
    CLOSING = auto()
    RETURNED = auto()
    ENDED = auto()
    BROKEN = auto()


class RecordScan:
    """Goes through one record, in pieces of which none reaches beyond a line end; feed it until it :attr:`is_over`.

    Args:
        delimiter: between values.
        quote: around them, and twice inside of them for one.

    Attributes:
        values: how many there were so far.
        quotes: how many quotes.
    """

    def __init__(self, delimiter: str, quote: str) -> None:
        self._delimiter, self._quote = delimiter.encode(), quote.encode()
        self._state = _State.BEGINS
        self.values, self.quotes = 1, 0

    @property
    def is_over(self) -> bool:
        """Whether the record has ended, or is none."""
        return self._state in {_State.ENDED, _State.BROKEN}

    @property
    def is_whole(self) -> bool:
        """Whether what was fed is one record, with its line end or, at the end of a file, without."""
        return self._state not in {_State.QUOTED, _State.BROKEN}

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes."""
        self.quotes += piece.count(self._quote)
        at = 0
        while at < len(piece) and not self.is_over:
            at = self._step(piece, at)
        if self._state in {_State.BEGINS, _State.PLAIN} and piece.endswith(b"\n"):
            self._state = _State.ENDED

    def _step(self, piece: bytes, at: int) -> int:
        if self._state is _State.QUOTED:
            return self._go_behind(piece, at, self._quote, _State.CLOSING)
        if self._state is _State.CLOSING:
            return self._close(piece, at)
        if self._state is _State.RETURNED:  # a piece ended within the line end
            self._state = _State.ENDED if piece[at:] == b"\n" else _State.BROKEN
            return len(piece)
        if self._state is _State.BEGINS and piece.startswith(self._quote, at):
            self._state = _State.QUOTED
            return at + len(self._quote)
        self._state = _State.PLAIN
        behind = self._go_behind(piece, at, self._delimiter, _State.BEGINS)
        self.values += self._state is _State.BEGINS
        return behind

    def _close(self, piece: bytes, at: int) -> int:
        if piece.startswith(self._quote, at):
            self._state = _State.QUOTED
            return at + len(self._quote)
        if piece.startswith(self._delimiter, at):
            self._state = _State.BEGINS
            self.values += 1
            return at + len(self._delimiter)
        rest = piece[at:]
        if rest == b"\r":
            self._state = _State.RETURNED
        else:
            self._state = _State.ENDED if rest in {b"\n", b"\r\n"} else _State.BROKEN
        return len(piece)

    def _go_behind(self, piece: bytes, at: int, wanted: bytes, then: _State) -> int:
        found = piece.find(wanted, at)
        if found < 0:
            return len(piece)
        self._state = then
        return found + len(wanted)

"""Flight SQL's messages on the wire: the few that a read-only server takes and gives, by field number.

::

    FlightDescriptor.cmd, Ticket, Action.body = Any {1: type URL, 2: message}

Protocol buffers are pairs of field number and value; these messages use two of their kinds, numbers and bytes. Thirty
lines read and write both, so no generated code and no compiler of it are needed. What is not understood is refused, a
field that is not known is passed over, as the format wants it.

Numbers are those of ``FlightSql.proto`` of Apache Arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from warehouse.serve.problems import Problem

_TYPE_URL = "type.googleapis.com/arrow.flight.protocol.sql."
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10

Value = int | bytes


@dataclass(frozen=True)
class Message:
    """One message of Flight SQL.

    Attributes:
        name: ``CommandGetTables`` and so on.
        fields: values by field number, in their order.
    """

    name: str
    fields: Mapping[int, tuple[Value, ...]]

    def text(self, number: int) -> str | None:
        """A text; None if it was not sent.

        Raises:
            Problem: ``bad_body``.
        """
        content = self.content(number)
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError:
            raise unreadable() from None

    def content(self, number: int) -> bytes | None:
        """Bytes; None if they were not sent.

        Raises:
            Problem: ``bad_body``.
        """
        values = self.fields.get(number, ())
        if any(isinstance(value, int) for value in values):
            raise unreadable()
        return bytes(values[-1]) if values else None

    def texts(self, number: int) -> list[str]:
        """Every text of a field that comes again and again.

        Raises:
            Problem: ``bad_body``.
        """
        return [Message(self.name, {number: (value,)}).text(number) or "" for value in self.fields.get(number, ())]

    def numbers(self, number: int) -> list[int]:
        """Every number of a field, whether packed into bytes or not.

        Raises:
            Problem: ``bad_body``.
        """
        found: list[int] = []
        for value in self.fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
            else:
                place = 0
                while place < len(value):
                    each, place = _varint(value, place)
                    found.append(each)
        return found


def unreadable() -> Problem:
    """The problem of bytes that are no message."""
    return Problem("bad_body", "That is no message of Flight SQL.", remedy="use a Flight SQL driver, or name a dataset")


def parse_any(content: bytes) -> Message | None:
    """The Flight SQL message in an ``Any``; None if it is something else.

    Raises:
        Problem: ``bad_body``: it says that it is one, and is not.
    """
    try:
        outer = Message("Any", decode(content))
        url = outer.text(1)
    except Problem:
        return None
    if url is None or not url.startswith(_TYPE_URL):
        return None
    return Message(url.removeprefix(_TYPE_URL), decode(outer.content(2) or b""))


def any_of(name: str, fields: Iterable[tuple[int, Value]]) -> bytes:
    """A message in an ``Any``."""
    return encode([(1, f"{_TYPE_URL}{name}".encode()), (2, encode(fields))])


def encode(fields: Iterable[tuple[int, Value]]) -> bytes:
    """A message of numbers and bytes."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_number(number << 3 | _VARINT), _number(value)]
        else:
            parts += [_number(number << 3 | _BYTES), _number(len(value)), value]
    return b"".join(parts)


def decode(content: bytes) -> dict[int, tuple[Value, ...]]:
    """The fields of a message.

    Raises:
        Problem: ``bad_body``.
    """
    found: dict[int, tuple[Value, ...]] = {}
    for number, value in _fields(content):
        found[number] = (*found.get(number, ()), value)
    return found


def _fields(content: bytes) -> Iterator[tuple[int, Value]]:
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise unreadable()
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(content, place)
        elif kind in {_FIXED32, _FIXED64}:
            length = 4 if kind == _FIXED32 else 8
        else:
            raise unreadable()
        if length > len(content) - place:
            raise unreadable()
        yield number, content[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """The number that begins at a place, and where it ends."""
    value = 0
    for count in range(_VARINT_BYTES):
        if place + count >= len(content):
            break
        byte = content[place + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise unreadable()


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)

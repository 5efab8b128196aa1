"""Laws of the Flight door's messages: what is written is read back, and no bytes of a caller's do any harm."""

from __future__ import annotations

import contextlib
import json

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from hypothesis import given
from hypothesis import strategies as st

from warehouse.flight import metadata, tickets
from warehouse.flight.tickets import DatasetAsked, SqlAsked
from warehouse.flight.wire import Message, any_of, decode, encode, parse_any
from warehouse.serve.policy import Shown
from warehouse.serve.problems import Problem

NUMBERS = st.integers(1, 500)
VALUES = st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=200))


@given(st.lists(st.tuples(NUMBERS, VALUES), max_size=20))
def test_a_message_is_read_as_it_was_written(fields: list[tuple[int, int | bytes]]) -> None:
    read = decode(encode(fields))
    assert {number: tuple(value for each, value in fields if each == number) for number, _ in fields} == read


@given(st.text(max_size=50), st.text(max_size=50), st.integers(1, 2**31 - 1))
def test_messages_are_those_of_protocol_buffers(name: str, type_name: str, number: int) -> None:
    theirs = FieldDescriptorProto(name=name, type_name=type_name, number=number)
    fields = decode(theirs.SerializeToString())
    assert Message("FieldDescriptorProto", fields).text(1) == name
    ours = FieldDescriptorProto.FromString(encode([(1, name.encode()), (3, number), (6, type_name.encode())]))
    assert ours == theirs


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: ("{" + text).encode())))
def test_bytes_of_a_caller_are_a_question_or_a_problem(content: bytes) -> None:
    for wrapped in (
        content,
        encode([(1, b"type.googleapis.com/arrow.flight.protocol.sql.CommandGetTables"), (2, content)]),
    ):
        with contextlib.suppress(Problem):
            asked = tickets.parse(wrapped)
            if isinstance(asked, Message) and asked.name in metadata.SCHEMAS:
                metadata.schema_of(asked)
                asked.texts(4)


def test_a_message_of_another_protocol_is_none_of_ours() -> None:
    assert parse_any(encode([(1, b"type.googleapis.com/google.protobuf.Empty"), (2, b"")])) is None
    found = parse_any(any_of("CommandGetSqlInfo", [(1, b"\x08\x03")]))
    assert found is not None
    assert (found.name, found.numbers(1)) == ("CommandGetSqlInfo", [8, 3])


@pytest.mark.parametrize(
    ("sql", "dataset"),
    [
        ("select * from routes", "routes"),
        (' SELECT *\nFROM "penstock"."main"."routes" ; ', "routes"),
        ("from main.Routes", "routes"),
        ('select * from ops."ledger"', "ops.ledger"),
        ("select * from routes limit 1", None),
        ("select * from routes, routes", None),
        ("select * from warehouse.main.routes", None),
        ("select * from other.main.routes", None),
        ("select * from a.b.c.routes", None),
        ("select * from nothing", None),
        ("select * from routes -- ?", None),
        ("select *, 1 from routes", None),
        ('select * from "main.routes"', None),
    ],
)
def test_only_a_whole_dataset_goes_without_the_sandbox(sql: str, dataset: str | None) -> None:
    shown = {name: Shown(name, (("a", "INTEGER"),), frozenset(), False, "a", "t") for name in ("routes", "ops.ledger")}
    found = SqlAsked(sql).dataset(shown)
    assert (found.name if found else None) == dataset


def test_tickets_hold_all_of_a_question() -> None:
    rows = DatasetAsked(dataset="a", select="b", filter=("b:eq:1",), sort="-b", limit=3, release="r000001")
    statement = SqlAsked("select ?", b"\x00\xff", "r000012")
    assert (tickets.parse(tickets.dataset_ticket(rows)), tickets.parse(statement.handle())) == (rows, statement)
    assert json.loads(SqlAsked("x").handle()) == {"sql": "x"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [(None, "ab b_c abc"), ("%", "ab b_c abc"), ("a%", "ab abc"), ("_b", "ab"), ("%b%c", "b_c abc"), ("", "")],
)
def test_patterns_are_those_of_like(pattern: str | None, names: str) -> None:
    fits = metadata._like(pattern)
    assert [name for name in ("ab", "b_c", "abc") if fits(name)] == names.split()
    assert not metadata._like("%a" * 60 + "b")("a" * 200)  # and none takes for ever

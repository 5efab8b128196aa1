"""The Flight door: bulk reads by Arrow Flight, and SQL by Flight SQL, over what the HTTP door serves.

::

    token ─▶ admission ─▶ ticket ─┬─ a dataset       ─▶ the role's SELECT, streamed
                                  ├─ SELECT * FROM x ─▶ the same; it needs no sandbox
                                  ├─ a statement     ─▶ guarded SQL, in a process of its own
                                  └─ metadata        ─▶ what the role sees

Policy, tokens, counts, guarded SQL, releases and the log of queries are those of the HTTP door, in the same process. A
question is pinned to one release when it is asked for, and its rows come from that one whatever is published until they
are fetched. Nothing can be written.

gRPC serves calls in threads of its own, so handlers wait where they have to.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import flight

from warehouse.flight import metadata, tickets
from warehouse.flight.calls import MIDDLEWARE, Call, Calls, NoHandshake
from warehouse.flight.certificate import Certificate
from warehouse.flight.connections import Moving, break_off
from warehouse.flight.streams import Streams, dataset_rows, in_messages, ipc_rows, table_rows
from warehouse.flight.tickets import DatasetAsked, SqlAsked
from warehouse.flight.wire import Message, any_of, encode, parse_any, unreadable
from warehouse.serve.admission import require
from warehouse.serve.answers import told
from warehouse.serve.formats import exact_rows
from warehouse.serve.guarded import run_guarded
from warehouse.serve.opened import OpenRelease
from warehouse.serve.policy import Shown
from warehouse.serve.problems import Problem
from warehouse.serve.query import Question, rows_question
from warehouse.serve.server import Service

_PREPARE, _CLOSE = "CreatePreparedStatement", "ClosePreparedStatement"
_STOP_S = 5.0
_READ_ONLY = "read with Flight SQL queries, or tickets of datasets"


class FlightDoor(flight.FlightServerBase):
    """A server on a port; it serves as soon as it is made.

    Args:
        service: what is served.
        host: address to listen on.
        port: port; 0 takes a free one.
        certificate: what it proves itself with.

    Raises:
        OSError: the address cannot be listened on.

    Side effects: threads run until :meth:`close`.
    """

    def __init__(self, service: Service, *, host: str, port: int, certificate: Certificate) -> None:
        self._service = service
        self._calls = Calls(service.admission, service.log)
        self._streams = Streams()
        self._host = f"[{host}]" if ":" in host else host
        try:
            super().__init__(
                f"grpc+tls://{self._host}:{port}",
                auth_handler=NoHandshake(),
                tls_certificates=[(certificate.chain.decode(), certificate.key.decode())],
                middleware=MIDDLEWARE,
            )
        except pa.ArrowException as error:
            raise OSError(None, str(error).split("\n", 1)[0]) from None
        self._moving = Moving(lambda: self.port)

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"grpc+tls://{self._host}:{self.port}"

    def close(self) -> None:
        """End it: calls that are still under way after some seconds are broken off."""
        ending = threading.Thread(target=self.shutdown, name="flight-end")
        ending.start()
        ending.join(_STOP_S)
        while ending.is_alive():
            break_off(self.port)
            ending.join(0.1)
        self._moving.close()

    # -- what the library calls ----------------------------------------------------------------------------------------

    def list_flights(self, context: Any, criteria: Any) -> Iterator[flight.FlightInfo]:  # noqa: ARG002 - the library's
        """Every dataset of the role."""
        with self._calls.answering(context, "ListFlights") as call:
            require(call.who, "read")
            opened = self._open(call, None)
            shown = sorted(opened.shown(call.who.role))
            found = [self._dataset_info(opened, opened.dataset(call.who.role, name)) for name in shown]
        return iter(found)

    def get_flight_info(self, context: Any, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        """Where the rows of a question are to be had: here, with a ticket that names the release."""
        with self._calls.answering(context, "GetFlightInfo") as call:
            asked = self._asked(call, _content(descriptor))
            opened = self._open(call, asked)
            schema: Any
            schema, ticket = self._plan(call, opened, asked)
            # Without a location, the server that was asked is meant.
            return flight.FlightInfo(schema, descriptor, [flight.FlightEndpoint(ticket, [])])

    def get_schema(self, context: Any, descriptor: flight.FlightDescriptor) -> Any:
        """Columns of a question's answer."""
        with self._calls.answering(context, "GetSchema") as call:
            asked = self._asked(call, _content(descriptor))
            opened = self._open(call, asked)
            schema: Any
            schema, _ = self._plan(call, opened, asked)
            if schema is None and isinstance(asked, SqlAsked):
                schema = self._described(call, opened, asked)
            return flight.SchemaResult(schema)

    def do_get(self, context: Any, ticket: flight.Ticket) -> flight.FlightDataStream:
        """Rows."""
        with self._calls.answering(context, "DoGet", goes_on=True) as call:
            asked = self._asked(call, ticket.ticket)
            opened = self._open(call, asked)
            subject = call.who.subject
            self._streams.begin(subject)
            try:
                schema, batches = self._rows(call, opened, asked)
            except BaseException:
                self._streams.end(subject)
                raise
            sent: Any = self._sent(call, batches, context.peer())
            next(sent)  # from here on its end is written down, also if not a single batch is taken
            return flight.GeneratorStream(schema, sent)

    def do_action(self, context: Any, action: flight.Action) -> Iterator[bytes]:
        """Prepare a statement, or forget one."""
        with self._calls.answering(context, f"DoAction {action.type[:80]}") as call:
            if action.type == _PREPARE:
                found = [
                    self._prepare(call, _message(action.body.to_pybytes(), "ActionCreatePreparedStatementRequest"))
                ]
            elif action.type == _CLOSE:
                found = []  # its handle is all there was of it
            else:
                raise Problem("not_found", f"There is no action {action.type[:80]!r}.", remedy=_READ_ONLY)
        return iter(found)

    def list_actions(self, context: Any) -> Any:
        """The two there are."""
        with self._calls.answering(context, "ListActions"):
            return [(_PREPARE, "Prepare a statement."), (_CLOSE, "Forget a prepared statement.")]

    def do_put(self, context: Any, descriptor: flight.FlightDescriptor, reader: Any, writer: Any) -> None:
        """Bind parameters to a prepared statement; whatever else is put is refused."""
        with self._calls.answering(context, "DoPut") as call:
            message = parse_any((descriptor.command or b"")[: tickets.MAX_ASKED_BYTES])
            if message is None or message.name != "CommandPreparedStatementQuery":
                raise Problem("method_not_allowed", "Nothing can be written here.", remedy=_READ_ONLY)
            asked = self._statement(call, message)
            bound = SqlAsked(asked.sql, _one_row(reader), asked.release)
            # DoPutPreparedStatementResult: from now on the statement goes by the handle that holds its parameters.
            writer.write(pa.py_buffer(encode([(1, bound.handle())])))

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:  # noqa: ARG002 - the library's
        """Refused."""
        with self._calls.answering(context, "DoExchange"):
            raise Problem("method_not_allowed", "Nothing can be exchanged here.", remedy=_READ_ONLY)

    def _sent(self, call: Call, batches: Iterator[pa.RecordBatch], peer: str) -> Iterator[pa.RecordBatch | None]:
        """The batches as they are sent, after one None; the end, or the breaking off, is written down."""
        call.rows = 0
        status, code = 499, "client_gone"
        try:
            with self._calls.told(call):
                yield None
                for batch in in_messages(batches):
                    call.rows += batch.num_rows
                    call.size_bytes += batch.nbytes
                    self._moving.moves(call.id, peer)
                    yield batch
                status, code = 200, ""
        finally:
            self._moving.ends(call.id)
            self._streams.end(call.who.subject)
            if not call.is_ended:
                self._calls.end(call, status, code)

    # -- what is asked -------------------------------------------------------------------------------------------------

    def _asked(self, call: Call, content: bytes) -> tickets.Asked:
        """What is asked for, written down for the log."""
        asked = tickets.parse(content)
        if isinstance(asked, Message):
            if asked.name in {"CommandStatementQuery", "CommandPreparedStatementQuery"}:
                return self._statement(call, asked)
            if asked.name not in metadata.SCHEMAS:
                raise Problem("method_not_allowed", f"{asked.name[:80]} is not served here.", remedy=_READ_ONLY)
            call.path = asked.name
        elif isinstance(asked, SqlAsked):
            call.path, call.question = "statement", asked.sql
        else:
            call.path = f"dataset {asked.dataset}"
            call.question = json.dumps(asked.model_dump(exclude={"dataset"}, exclude_defaults=True))
        return asked

    @staticmethod
    def _statement(call: Call, message: Message) -> SqlAsked:
        asked: tickets.Asked
        if message.name == "CommandStatementQuery":
            asked = SqlAsked(message.text(1) or "")
        else:
            asked = tickets.parse(message.content(1) or b"")
        if not isinstance(asked, SqlAsked):
            raise unreadable()
        call.path, call.question = "statement", asked.sql
        return asked

    def _open(self, call: Call, asked: tickets.Asked | None) -> OpenRelease:
        release = None if asked is None or isinstance(asked, Message) else asked.release
        follower = self._service.follower
        call.opened = follower.current() if release is None else follower.get(release)
        return call.opened

    def _plan(self, call: Call, opened: OpenRelease, asked: tickets.Asked) -> tuple[pa.Schema | None, bytes]:
        """Columns, as far as they are known without running anything, and the ticket of a question."""
        if isinstance(asked, Message):
            require(call.who, "read")
            return metadata.schema_of(asked), any_of(asked.name, [(n, v) for n, vs in asked.fields.items() for v in vs])
        if isinstance(asked, DatasetAsked):
            require(call.who, "read")
            columns = self._columns(opened, self._question(call, opened, asked))
            return columns, tickets.dataset_ticket(asked.model_copy(update={"release": opened.id}))
        whole = self._whole(call, opened, asked)
        schema = metadata.dataset_schema(opened, whole) if whole is not None else None
        return schema, asked.at(opened.id).handle()

    def _whole(self, call: Call, opened: OpenRelease, asked: SqlAsked) -> Shown | None:
        """The dataset that a statement gives as it is, which needs no sandbox; else the caller must have the scope."""
        found = asked.dataset(opened.shown(call.who.role))
        require(call.who, "sql" if found is None else "read")
        return found

    def _rows(
        self, call: Call, opened: OpenRelease, asked: tickets.Asked
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        pool = self._service.threads.exports
        if isinstance(asked, Message):
            require(call.who, "read")
            return table_rows(metadata.answer(asked, opened, call.who.role))
        if isinstance(asked, DatasetAsked):
            require(call.who, "read")
            return dataset_rows(pool, opened, self._question(call, opened, asked), asked.limit)
        whole = self._whole(call, opened, asked)
        if whole is not None:
            question = rows_question(whole, select=None, filters=(), sort=None, release=opened.id)
            return dataset_rows(pool, opened, question, None)
        return ipc_rows(self._run(call, opened, asked, describe=False))

    @staticmethod
    def _question(call: Call, opened: OpenRelease, asked: DatasetAsked) -> Question:
        shown = opened.dataset(call.who.role, asked.dataset)
        return rows_question(shown, select=asked.select, filters=asked.filter, sort=asked.sort, release=opened.id)

    @staticmethod
    def _columns(opened: OpenRelease, question: Question) -> pa.Schema:
        empty = Question(question.sql, question.columns, question.parameters)
        cursor = opened.borrow()
        try:
            with told():
                sql = exact_rows(empty.ordered(0), empty.columns)
                schema: pa.Schema = cursor.execute(sql, empty.parameters).to_arrow_table().schema
        finally:
            opened.give_back(cursor)
        return schema

    def _described(self, call: Call, opened: OpenRelease, asked: SqlAsked) -> pa.Schema:
        schema, _ = ipc_rows(self._run(call, opened, asked, describe=True))
        return schema

    def _run(self, call: Call, opened: OpenRelease, asked: SqlAsked, *, describe: bool) -> bytes:
        service, role = self._service, call.who.role
        options: Any = {"parameters": asked.parameters, "describe": describe}
        return run_guarded(service.sandbox, service.follower, opened, role, asked.sql, "arrow", **options).content

    def _prepare(self, call: Call, message: Message) -> bytes:
        asked = SqlAsked(message.text(1) or "")
        call.path, call.question = "statement", asked.sql
        opened = self._open(call, asked)
        whole = self._whole(call, opened, asked)
        schema = metadata.dataset_schema(opened, whole) if whole is not None else self._described(call, opened, asked)
        columns = schema.serialize().to_pybytes()
        return any_of("ActionCreatePreparedStatementResult", [(1, asked.handle()), (2, columns)])

    def _dataset_info(self, opened: OpenRelease, shown: Shown) -> flight.FlightInfo:
        ticket = tickets.dataset_ticket(DatasetAsked(dataset=shown.name, release=opened.id))
        descriptor = flight.FlightDescriptor.for_path(shown.name)
        schema = metadata.dataset_schema(opened, shown)
        return flight.FlightInfo(schema, descriptor, [flight.FlightEndpoint(ticket, [])])


def _content(descriptor: flight.FlightDescriptor) -> bytes:
    """What a descriptor asks for: its command, or the dataset that its path names."""
    if descriptor.descriptor_type == flight.DescriptorType.CMD:
        return descriptor.command or b""
    return b".".join(descriptor.path or ())


def _message(content: bytes, name: str) -> Message:
    """The message of that name.

    Raises:
        Problem: ``bad_body``, ``body_too_large``.
    """
    message = tickets.parse(content)
    if not isinstance(message, Message) or message.name != name:
        raise unreadable()
    return message


def _one_row(reader: Any) -> bytes:
    """The parameters that a caller sends, as an Arrow stream.

    Raises:
        Problem: ``bad_body``, ``body_too_large``.
    """
    rows: list[pa.RecordBatch] = []
    for chunk in reader:
        rows.append(chunk.data)
        if sum(batch.nbytes for batch in rows) > tickets.MAX_PARAMETER_BYTES:
            raise Problem("body_too_large", "The parameters are too large.", remedy="send less")
    table = pa.Table.from_batches(rows, reader.schema)
    if table.num_rows != 1:
        raise Problem("bad_body", f"There are {table.num_rows} rows of parameters.", remedy="bind one row at a time")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()

"""Receivers of messages as real servers on free ports: one takes JSON by HTTP, one takes mail by SMTP."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JsonReceiver:
    """What came by HTTP, and whether it is taken."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.status = 200
        self.port = 0
        self.before: Callable[[], None] = lambda: None

    @property
    def titles(self) -> list[str]:
        """Subjects of the messages that came."""
        return [str(message["title"]) for message in self.messages]

    def url(self, secret: str = "") -> str:
        """Apprise's URL of it; a secret becomes part of its path."""
        return f"json://127.0.0.1:{self.port}/{secret}"


@contextmanager
def json_receiver() -> Iterator[JsonReceiver]:
    """A running receiver of JSON."""
    receiver = JsonReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.before()
            if receiver.status == 200:
                receiver.messages.append(json.loads(body))
                receiver.paths.append(self.path)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        receiver.port = server.server_address[1]
        yield receiver


class MailReceiver:
    """Mails that came."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Apprise's URL of it."""
        return f"mailto://127.0.0.1:{self.port}?from=penstock@shop.example&to=ops@shop.example&mode=insecure"


@contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    """A running mail server that takes every mail and sends none on."""
    receiver = MailReceiver()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.answer(220, "ready")
            while line := self.rfile.readline():
                word = line[:4].upper().strip()
                if word == b"DATA":
                    self.answer(354, "go on")
                    lines = []
                    while (text := self.rfile.readline()) != b".\r\n":
                        lines.append(text.removeprefix(b".") if text.startswith(b"..") else text)
                    mail = message_from_bytes(b"".join(lines), policy=policy.default)
                    receiver.mails.append(mail)
                self.answer(221 if word == b"QUIT" else 250, "fine")
                if word == b"QUIT":
                    return

        def answer(self, code: int, words: str) -> None:
            self.wfile.write(f"{code} {words}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        receiver.port = server.server_address[1]
        yield receiver


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()

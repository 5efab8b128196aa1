"""An application on a free port of this machine, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from uvicorn import Config

from warehouse.serve.server import Patient, Server


@contextmanager
def listening(make: Callable[[str], Any]) -> Iterator[str]:
    """Serve an application; its address.

    Args:
        make: the application, from the address at which it will be.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = _Server(Config(make(address), http=Patient, lifespan="off", log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="listening")
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(60)


class _Server(Server):
    """A server that no signal ends: those belong to the main thread."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield

"""Fault 22: addresses that lead where no source is: spellings of forbidden addresses, redirects, names that change.

Each trial draws some of the corpus and has a reader connect. Connections are counted where they would be made: at
``socket.connect`` for forbidden addresses, at a listening trap for redirects and for names that resolve anew.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from common.errors import PenstockError, SettingsError, SourceRefused
from ingestion.databases.reader import postgres_reader
from ingestion.objects.reader import ObjectReader
from ingestion.spec import SourceSpec
from lake.object_store import parse_s3_url, s3_client
from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.doubles.s3 import s3_proxy
from tests.doubles.trap import socket_trap
from tests.integration.ingestion.conftest import BucketSource, new_lake
from tests.unit.ingestion.test_hosts import CORPUS

PARTS = ("addresses", "redirects", "rebinding")


def trials(campaign: Campaign) -> Iterator[Trial]:
    """Forbidden addresses in every spelling, redirects of every kind, a name that is another address the next time."""
    for seed in campaign.seeds(whole=30 if campaign.part == "addresses" else 10, quick=3):
        match campaign.part:
            case "addresses":
                yield _addresses(campaign, seed)
            case "redirects":
                yield _redirects(campaign, seed)
            case _:
                yield _rebinding(campaign, seed)


def _spec(kind: str) -> SourceSpec:
    table: dict[str, Any] = {"name": "orders", "mode": "append", "columns": [{"name": "a", "type": "string"}]}
    if kind == "objects":
        table["objects"] = {"path": "x/{key}.csv"}
    else:
        table |= {"mode": "snapshot", "primary_key": ["a"]}
        table["columns"][0]["nullable"] = False
    return SourceSpec.model_validate(
        {"source": "shop", "kind": kind, "connection": "shop", "owner": "me@example.org", "tables": [table]}
    )


def _addresses(campaign: Campaign, seed: int) -> Trial:
    lake = new_lake(campaign.folder / "state")
    drawn = campaign.random(seed).sample(CORPUS, 30)
    connected: list[Any] = []
    error = ""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket.socket, "connect", lambda _, address: connected.append(address))
        for text in drawn:
            host = f"[{text.strip('[]')}]" if ":" in text else text
            for url in (f"s3://k:s@bucket?endpoint=http://{host}:80", f"postgresql://u:p@{host}:5432/x"):
                reader = (
                    ObjectReader(_spec("objects"), SecretStr(url), lake)
                    if url.startswith("s3")
                    else postgres_reader(_spec("postgresql"), SecretStr(url), lake)
                )
                try:
                    with reader:
                        error = f"{url} was opened"
                except (SourceRefused, SettingsError):
                    continue
                except PenstockError as told:
                    error = f"{url}: {type(told).__name__}: {told}"[:300]
    return _counted(seed, "addresses", len(drawn) * 2, connected, error)


def _redirects(campaign: Campaign, seed: int) -> Trial:
    drawn = campaign.random(seed)
    url = campaign.services.connections["stations"]
    location = parse_s3_url(SecretStr(url))
    folder = campaign.folder / str(seed)
    folder.mkdir()
    prefix = f"fault-{uuid.uuid4().hex[:12]}"
    bucket = BucketSource(url, prefix, s3_client(location), location, new_lake(folder / "state"), folder)
    bucket.put("a,b\n1,x\n")
    asked, error = 0, ""
    with s3_proxy(location.endpoint) as between, socket_trap() as (port, caught):
        through = url.replace(location.endpoint, between.endpoint)
        for status in (301, 302, 303, 307, 308):
            place = f"http://127.0.0.1:{port}/"
            headers = {"Location": place, "x-amz-bucket-region": drawn.choice(["eu-west-1", f"127.0.0.1:{port}/#"])}
            between.disturbances.clear()
            between.disturb(
                match=drawn.choice(["list-type=2", f"{prefix}/p/"]),
                status=status,
                headers=headers,
                code=drawn.choice(["PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"]),
            )
            asked += 1
            try:
                bucket.stage(url=through)
            except PenstockError:
                continue
            error = f"a {status} was read"
        return _counted(seed, "redirects", asked, caught, error)


def _rebinding(campaign: Campaign, seed: int) -> Trial:
    """The name is harmless when it is judged, and forbidden each time after that."""
    lake = new_lake(campaign.folder / "state")
    with socket_trap() as (port, caught), pytest.MonkeyPatch.context() as patched:
        asked: list[str] = []
        real, connect = socket.getaddrinfo, socket.socket.connect
        elsewhere: list[Any] = []

        def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
            if host != "rebind.example.org":
                return real(host, *arguments, **options)
            asked.append(host)
            address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        def watched(self: socket.socket, address: Any) -> None:
            if isinstance(address, tuple) and str(address[0]).startswith("169.254"):
                elsewhere.append(address)
                raise ConnectionRefusedError(111, "no")
            connect(self, address)

        patched.setattr(socket, "getaddrinfo", resolve)
        patched.setattr(socket.socket, "connect", watched)
        error = "it was read"
        url = SecretStr(f"s3://k:s@bucket?endpoint=http://rebind.example.org:{port}")
        try:
            with ObjectReader(_spec("objects"), url, lake):
                pass  # opening it is what connects
        except PenstockError:
            error = ""
    # The trap is where the name was allowed to lead: that it was reached there and nowhere else is the law.
    return _counted(seed, "rebinding", 1, elsewhere, error, caught=len(caught), resolved=len(asked))


def _counted(seed: int, action: str, asked: int, connected: list[Any], error: str, **more: int) -> Trial:
    if connected:
        error = error or f"connected to {connected[0]}"
    extra = {"payloads": asked, "forbidden_connections": len(connected), "corpus": len(CORPUS), **more}
    return Trial("22", seed=seed, stage="extract", action=action, error=error, extra=extra)

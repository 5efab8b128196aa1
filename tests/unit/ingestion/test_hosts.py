"""Laws of the guard of hosts: what resolves to a forbidden address is refused, however it is spelled."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from common.errors import SourceRefused, SourceUnavailable
from common.settings import Settings
from ingestion.databases.reader import postgres_reader
from ingestion.hosts import check_host, is_forbidden
from ingestion.spec import SourceSpec
from lake.lake import Lake

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",  # noqa: S104 - refused
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
]
FORBIDDEN_6 = ["::", "fe80::1", "febf:ffff::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "[fe80::1]"]
HARMLESS = ["127.0.0.1", "127.1", "10.0.0.5", "192.168.1.1", "172.16.0.1", "8.8.8.8", "::1", "fd00::1", "2001:db8::1"]


def spellings(address: str) -> Iterator[str]:
    """Every way of writing an IPv4 address that a system's resolver understands, and its IPv6 wrappings."""
    a, b, c, d = (int(part) for part in address.split("."))
    number = int(ipaddress.IPv4Address(address))
    yield from (address, f"{address}.", f"{a}.{b}.{(c << 8) + d}", f"{a}.{(b << 16) + (c << 8) + d}")
    yield from (str(number), hex(number), hex(number).upper().replace("X", "x"), f"0{number:o}")
    yield ".".join(hex(part) for part in (a, b, c, d))
    yield ".".join(f"0{part:o}" for part in (a, b, c, d))
    yield ".".join(f"0x{part:08x}" for part in (a, b, c, d))
    yield f"{hex(a)}.{b}.0{c:o}.{d}"
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    yield from (f"::ffff:{address}", f"[::ffff:{high}:{low}]", f"0:0:0:0:0:ffff:{high}:{low}", f"::FFFF:{address}")
    yield from (f"64:ff9b::{address}", f"2002:{high}:{low}::1", f"64:ff9b:1::{address}")
    if number > 0xFFFF:
        yield f"::{address}"
    yield "".join(chr(0xFF10 + int(each)) if each.isdigit() else chr(0x3002) for each in address)


CORPUS = [text for address in FORBIDDEN for text in spellings(address)] + FORBIDDEN_6


def test_no_spelling_of_a_forbidden_address_is_let_through() -> None:
    passed = []
    for text in CORPUS:
        try:
            passed.append((text, check_host(text)))
        except SourceRefused:
            continue
    assert passed == []
    assert len(CORPUS) >= 200


@pytest.mark.parametrize("host", HARMLESS)
def test_private_networks_and_loopback_are_where_databases_live(host: str) -> None:
    assert check_host(host) == (str(ipaddress.ip_address("127.0.0.1" if host == "127.1" else host)),)


@pytest.mark.parametrize("host", ["", "[]", "a b", "a/b", "a@b", "a\0b", "a\nb", "fe80::1%lo", "a?b", "a#b", "%31"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(SourceRefused):
        check_host(host)


def test_a_name_is_judged_by_all_addresses_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    answers("8.8.8.8", "8.8.4.4")
    assert check_host("Example.org.") == ("8.8.8.8", "8.8.4.4")
    answers("8.8.8.8", "169.254.169.254")
    with pytest.raises(SourceRefused, match=r"Connecting to rebind\.example\.org is forbidden: 169\.254\.169\.254"):
        check_host("rebind.example.org", connection="shop")


def test_a_name_that_does_not_resolve_is_unavailable_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(SourceUnavailable, match="cannot be found"):
        check_host("no-such-host.invalid")


@pytest.mark.parametrize(
    ("allowed", "host", "passes"),
    [
        ("db.example.org", "DB.example.org", True),
        ("db.example.org", "db.example.org.evil.org", False),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("10.0.0.0/8", "name-in-ten", True),
        ("10.0.0.0/8, 192.168.0.1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "2130706433", True),
        ("169.254.169.254", "169.254.169.254", False),
        ("*", "169.254.169.254", False),
    ],
)
def test_the_allow_list_is_all_that_is_allowed_and_never_what_is_forbidden(
    monkeypatch: pytest.MonkeyPatch, allowed: str, host: str, passes: bool
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    settings = Settings.load({"PENSTOCK_ALLOWED_HOSTS": allowed})
    if passes:
        assert check_host(host, allowed=settings.allowed_hosts)
    else:
        with pytest.raises(SourceRefused):
            check_host(host, allowed=settings.allowed_hosts)


def test_an_address_in_a_forbidden_network_is_found_wherever_in_it_it_lies() -> None:
    draw = random.Random(7)
    for _ in range(2_000):
        low = draw.randrange(1 << 16)
        assert is_forbidden(ipaddress.IPv4Address((169 << 24) + (254 << 16) + low))
        assert is_forbidden(ipaddress.IPv6Address((0xFE80 << 112) + draw.randrange(1 << 112)))
        assert is_forbidden(ipaddress.IPv6Address((0xFFFF << 32) + (169 << 24) + (254 << 16) + low))


def test_a_database_at_a_forbidden_address_is_refused_before_anything_is_sent(tmp_path: object) -> None:
    spec = SourceSpec.model_validate(
        {
            "source": "shop",
            "kind": "postgresql",
            "connection": "shop",
            "owner": "me@example.org",
            "tables": [{"name": "t", "mode": "snapshot", "columns": [{"name": "a", "type": "int32"}]}],
        }
    )
    lake = Lake(Settings.load({}, home=tmp_path))
    url = SecretStr("postgresql://user:canary-secret@2852039166:5432/db")
    with (
        pytest.raises(SourceRefused, match=r"forbidden: 169\.254\.169\.254") as refused,
        postgres_reader(spec, url, lake),
    ):
        pass
    assert "canary" not in str(refused.value)

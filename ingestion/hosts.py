"""Which hosts a source's connection may lead to: one guard for databases and object endpoints.

::

    host of a URL -> resolved once -> every address judged -> the addresses to connect to

A connection's URL may come from someone who may describe sources and nothing else. Without a guard such a URL makes
this machine a door to what only it can reach: above all the metadata service of a cloud, which hands out credentials to
whoever asks from inside. So what a name *resolves* to is judged, never how it is spelled: ``169.254.169.254`` is also
``2852039166``, ``0xa9fea9fe``, ``0251.0376.0251.0376``, ``::ffff:a9fe:a9fe`` and any name that a DNS answers so.

Private networks and loopback are allowed, for that is where databases live. ``allowed_hosts`` names what may be reached
where that is too much: once set, it is all that may. The addresses are returned, so that a caller can connect to what
was judged and not to a second answer of the DNS.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from pydantic import SecretStr

from common.errors import SourceRefused, SourceUnavailable
from common.settings import Settings
from ingestion.spec import SourceSpec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_FORBIDDEN = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host, unspecified
        "169.254.0.0/16",  # link-local; the metadata service of most clouds
        "100.100.100.200/32",  # metadata, Alibaba
        "168.63.129.16/32",  # the host agent, Azure
        "192.0.0.192/32",  # metadata, Oracle
        "224.0.0.0/4",  # multicast
        "255.255.255.255/32",  # broadcast
        "::/128",  # unspecified
        "fe80::/10",  # link-local
        "fd00:ec2::254/128",  # metadata, Amazon
        "fd20:ce::254/128",  # metadata, Google
        "ff00::/8",  # multicast
    )
)
_EMBEDDING = tuple(ipaddress.ip_network(text) for text in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48"))
"""IPv6 networks whose last four bytes are an IPv4 address that a gateway, or the system itself, would connect to."""

_NUMERIC = re.compile(r"(?i)(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}")
_CONTROL = re.compile(r"[\x00-\x20\x7f/\\@?#%]")


def check_host(
    host: str, *, allowed: Sequence[str] = (), source: str | None = None, connection: str | None = None
) -> tuple[str, ...]:
    """Resolve a host once and judge every address it has.

    Args:
        host: name or address, as a connection's URL has it; IPv6 with or without brackets.
        allowed: setting ``allowed_hosts``; empty allows every host that is not forbidden.
        source: source name, for error messages.
        connection: connection name, for error messages.

    Returns:
        Its addresses, in the order of the resolver: connect to these.

    Raises:
        SourceRefused: the host, or one of its addresses, may not be connected to.
        SourceUnavailable: it does not resolve.
    """
    name = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    remedy = f"correct connection {connection!r}" if connection else "correct the connection's URL"
    if not name or _CONTROL.search(name):
        raise SourceRefused("The connection names no host that can be connected to.", source=source, remedy=remedy)
    addresses = _resolved(name, source)
    for address in addresses:
        if is_forbidden(address):
            raise SourceRefused(
                f"Connecting to {name} is forbidden: {address} is a link-local, metadata, multicast or unspecified "
                "address.",
                source=source,
                remedy=remedy,
            )
    if allowed and not _is_allowed(name, addresses, allowed):
        raise SourceRefused(
            f"Connecting to {name} is not allowed: it is not among allowed_hosts.",
            source=source,
            remedy=f"{remedy}, or add the host to the setting allowed_hosts (PENSTOCK_ALLOWED_HOSTS)",
        )
    return tuple(str(address) for address in addresses)


def check_connection(url: SecretStr, spec: SourceSpec, settings: Settings) -> tuple[str, ...]:
    """Judge the host in the URL of a source's connection; see :func:`check_host`.

    Args:
        url: the connection's URL, known to be well-formed.
        spec: the source, for messages.
        settings: ``allowed_hosts``.
    """
    host = urlsplit(url.get_secret_value()).hostname or ""
    return check_host(host, allowed=settings.allowed_hosts, source=spec.source, connection=spec.connection)


def is_forbidden(address: Address) -> bool:
    """Whether no source may ever live at this address, or at the IPv4 address that is wrapped in it."""
    return any(
        each in network for each in _meanings(address) for network in _FORBIDDEN if network.version == each.version
    )


def _meanings(address: Address) -> list[Address]:
    """The address, and the IPv4 addresses it stands for: mapped, compatible, NAT64, 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    address = ipaddress.IPv6Address(int(address))  # without the zone of fe80::1%eth0
    found: list[Address] = [address]
    if address.ipv4_mapped:
        found.append(address.ipv4_mapped)
    if address.sixtofour:
        found.append(address.sixtofour)
    if address.teredo:
        found.extend(address.teredo)
    # ::1 is loopback and not 0.0.0.1.
    if not address.is_loopback and any(address in network for network in _EMBEDDING):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return found


def _resolved(name: str, source: str | None) -> list[Address]:
    if _NUMERIC.fullmatch(name):
        # Decimal, octal, hexadecimal and short forms are read here, as the system's own resolver reads them.
        try:
            return [ipaddress.IPv4Address(socket.inet_aton(name))]
        except OSError:
            pass
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(ipaddress.ip_address(answer[4][0]) for answer in answers))
    except (OSError, UnicodeError, ValueError):
        raise SourceUnavailable(
            f"The host {name} does not answer: its name cannot be found.",
            source=source,
            remedy="check the connection's host and the DNS",
        ) from None


def _is_allowed(name: str, addresses: Sequence[Address], allowed: Sequence[str]) -> bool:
    """Whether the name fits a pattern, or every address lies in a listed network."""
    networks = []
    for entry in allowed:
        if fnmatchcase(name, entry.lower().strip("[]").rstrip(".")):
            return True
        try:
            networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
        except ValueError:
            continue
    return bool(addresses) and all(any(address in network for network in networks) for address in addresses)

"""Hands a message to Apprise, which knows a hundred kinds of receivers, and lets nothing of its URL come back out.

Apprise says what went wrong in its log and not in its answer, and with the receiver's URL, which holds tokens and
passwords. So what it logs is not let through; what people are told is which kind of receiver did not take the message.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

_BETWEEN = re.compile(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_TALKATIVE = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib", "paho", "slixmpp")


def split(urls: SecretStr) -> list[SecretStr]:
    """The URLs of a text that holds one or several, separated by commas or blanks; a URL may have commas of its own."""
    return [SecretStr(url) for url in _BETWEEN.split(urls.get_secret_value().strip())]


def send(url: SecretStr, subject: str, body: str) -> str | None:
    """Deliver one message.

    Args:
        url: one Apprise URL.
        subject: one line.
        body: plain text.

    Returns:
        None if it was delivered, else why not, without any part of the URL but the kind of receiver.

    Side effects: network calls, each ended by Apprise's own timeouts (seconds).
    """
    import apprise

    with _muted():
        receiver = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Penstock", async_mode=False))
        try:
            if not receiver.add(url.get_secret_value()):
                return "the URL is none that Apprise knows"
            if receiver.notify(title=subject, body=body, body_format=apprise.NotifyFormat.TEXT):
                return None
            return f"{receiver[0].service_name} did not take it"
        except Exception as error:  # noqa: BLE001 - of a hundred plugins; the message may hold the URL
            return f"Apprise raised {type(error).__name__}"


@contextmanager
def _muted() -> Iterator[None]:
    """Nothing that the delivery's libraries log leaves this block; children of a logger follow their parent."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [(logger.level, logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
            logger.propagate = False
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate

"""Forms that a browser sends, read within a limit."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from warehouse.serve.gate import BODY_S
from warehouse.serve.problems import Problem

MAX_FORM_BYTES = 32 << 10
_MAX_FIELDS = 100


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of one that comes twice the last counts.

    Raises:
        Problem: ``body_too_large``, ``body_timeout``, ``bad_body``, ``unsupported_media_type``.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise Problem("unsupported_media_type", "That is no form of a page.", remedy="open the page and send its form")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_FORM_BYTES:
                    raise Problem("body_too_large", "The form holds too much.", remedy="send less")
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except TimeoutError:
        raise Problem("body_timeout", "The form did not come in time.", remedy="send it again") from None
    except (ValueError, ClientDisconnect):
        raise Problem("bad_body", "The form cannot be read.", remedy="open the page and send its form") from None

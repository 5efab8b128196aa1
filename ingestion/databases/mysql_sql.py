"""Names and texts in the SQL of MySQL and MariaDB: quoted here and nowhere else.

Whether a backslash escapes in a text, and whether double quotes make a name, depends on the server's ``sql_mode``; so
names are always in backticks, and a text that is not plainly harmless is written as the bytes it consists of.
"""

from __future__ import annotations

import re

_HARMLESS = re.compile(r"[A-Za-z0-9_ .,:;+()/-]*")


def quoted(name: str) -> str:
    """A quoted identifier (backticks doubled)."""
    return "`" + name.replace("`", "``") + "`"


def text(value: str) -> str:
    """A text literal whose meaning no ``sql_mode`` changes."""
    return f"'{value}'" if _HARMLESS.fullmatch(value) else f"_utf8mb4 x'{value.encode().hex()}'"

"""What a CSV object means, read one character at a time: slow, plain, and written apart from the code under test."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Meaning:
    """Records by the line they begin in, and the lines of everything that is no record."""

    records: list[tuple[int, list[str]]] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)


def read(data: bytes, width: int) -> Meaning:
    """Everything behind the header line of ``data``, whose header has ``width`` names."""
    text = data.decode("utf-8", "surrogateescape")
    meaning = Meaning()
    at, line = text.index("\n") + 1, 2
    while at < len(text):
        fields, end, problem = _record(text, at)
        raw = text[at:end]
        if problem == "open":
            lines = text[at:].split("\n")
            meaning.broken += [line + n for n, content in enumerate(lines) if content.strip()]
            break
        if fields is not None and raw.strip("\r\n") == "":
            pass  # a blank line
        elif problem or not _is_utf8(raw) or fields is None or len(fields) != width or "\0" in raw:
            meaning.broken.append(line)
        else:
            meaning.records.append((line, fields))
        line += raw.count("\n")
        at = end
    return meaning


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _record(text: str, at: int) -> tuple[list[str] | None, int, str | None]:  # noqa: PLR0912 - one machine
    """One record from ``at``: its fields, where the next one begins, and what is wrong with it."""
    fields: list[str] = []
    value, state = "", "start"
    while at < len(text):
        character = text[at]
        at += 1
        if state == "quoted":
            if character == '"':
                state = "quote"
            else:
                value += character
        elif state == "start" and character == '"':
            state = "quoted"
        elif state == "quote" and character == '"':
            value, state = value + '"', "quoted"
        elif character == "\n":
            return [*fields, value], at, None
        elif state == "returned":
            if character != "\r":
                return None, _next_line(text, at), "line end inside a line"
        elif character == "\r":
            state = "returned"
        elif character == ",":
            fields, value, state = [*fields, value], "", "start"
        elif state == "quote":
            return None, _next_line(text, at), "text behind a quote"
        else:
            value, state = value + character, "plain"
    return [*fields, value], at, "open" if state == "quoted" else None


def _next_line(text: str, at: int) -> int:
    if text[at - 1] == "\n":
        return at
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1

"""Laws of log lines: text is left alone; JSON is one object a line, says what it is about, and has no password."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import logs, work
from common.work import Work

_LOG = logging.getLogger("penstock.test")


@pytest.fixture
def as_json() -> Iterator[None]:
    logs.configure("json")
    yield
    logs.configure("text")
    logs.about()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_text_leaves_the_root_logger_as_it_was() -> None:
    before = (logging.getLogger().handlers[:], logging.getLogger("penstock").level)
    logs.configure("json")
    logs.configure("text")
    assert (logging.getLogger().handlers, logging.getLogger("penstock").level) == before


@pytest.mark.usefixtures("as_json")
def test_a_line_says_which_work_it_is_about_and_forgets_it_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    work.begin("test")
    of = Work("run-1")
    with of.batch("ingest", "raw.shop__orders", "2013-01-01", source="shop"), of.step("gate"):
        _LOG.info("judged %d rows", 3)
    _LOG.warning("done")
    judged, done = lines(capsys)
    where = {"source": "shop", "table": "raw.shop__orders", "interval": "2013-01-01"}
    assert judged.items() >= {**where, "run_id": "run-1", "stage": "ingest", "step": "gate", "level": "info"}.items()
    assert (judged["message"], judged["logger"]) == ("judged 3 rows", "penstock.test")
    assert "table" not in done
    assert (done["run_id"], done["level"]) == ("run-1", "warning")


@pytest.mark.usefixtures("as_json")
def test_an_error_is_one_line_with_its_stack(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logs.say("penstock: a defect", level=logging.ERROR, exc_info=True)
    (line,) = lines(capsys)
    assert (line["message"], line["error"], line["level"]) == ("a defect", "ValueError", "error")
    assert "two\nlines" in line["stack"]


@given(text=st.text(max_size=60), user=st.from_regex(r"[a-z]{0,8}", fullmatch=True))
def test_every_text_makes_one_line_and_a_password_in_a_url_never_shows(text: str, user: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (f"{text} ://{user}:s3cr3t-canary@db/x",), None)
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    assert "s3cr3t-canary" not in json.loads(line)["message"]


def test_what_somebody_else_logs_with_gets_the_context_and_loses_it_again() -> None:
    seen: list[dict[str, str]] = []
    logs.mirror(lambda context: seen.append(dict(context)))
    try:
        logs.leave(logs.enter({"table": "raw.a", "source": ""}))
    finally:
        logs.mirror(None)
    assert seen == [{"table": "raw.a"}, {}]

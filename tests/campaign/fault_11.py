"""Fault 11: cells of megabytes, thousands of columns, NUL, records of a million lines: read, or set apart whole."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Iterator

from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.integration.ingestion.folders import FolderSource, waiting

KINDS = ("cell", "columns", "nul", "lines")
FORMS = ("csv", "jsonl")
Rows = list[tuple[str, str]]


def trials(campaign: Campaign) -> Iterator[Trial]:
    """Objects in which some records are over the limit that the spec declares, and some are just below."""
    for seed in campaign.seeds(whole=32, quick=8):
        drawn = campaign.random(seed)
        kind, form = KINDS[seed % 4], FORMS[seed // 4 % 2]
        source = FolderSource(campaign.folder / str(seed))
        limit_bytes = drawn.choice([100_000, 1_000_000, 11_000_000])
        rows = [(f"k{number}", _value(kind, drawn, limit_bytes)) for number in range(12)]
        columns = drawn.randrange(5_000, 6_000) if kind == "columns" else 2
        lines = [_line(form, row, columns) for row in rows]
        header = ",".join(["a", "b", *(f"c{n}" for n in range(2, columns))])
        source.put(("\n".join(lines if form == "jsonl" else [header, *lines]) + "\n").encode())
        # A record of a million lines is one record only where quotes say so.
        fits = [len(line.encode()) <= limit_bytes for line in lines]
        yield _trial(seed, kind, form, source, rows, fits, limit_bytes)


def _value(kind: str, drawn: random.Random, limit_bytes: int) -> str:
    match kind:
        case "cell":
            return "y" * drawn.choice([1, limit_bytes // 2, limit_bytes + 1])
        case "nul":
            return "x\0y" * drawn.randrange(1, 5)
        case "lines":
            return "\n" * drawn.choice([1, min(limit_bytes // 3, 300_000), 1_000_000 if limit_bytes < 1_000_000 else 3])
        case _:
            return str(drawn.random())


def _line(form: str, row: tuple[str, str], columns: int) -> str:
    more = {f"c{n}": "z" for n in range(2, columns)}
    if form == "jsonl":
        return json.dumps({"a": row[0], "b": row[1], **more})
    value = f'"{row[1]}"' if "\n" in row[1] else row[1]
    return ",".join([row[0], value, *more.values()])


def _trial(
    seed: int, kind: str, form: str, source: FolderSource, rows: Rows, fits: list[bool], limit_bytes: int
) -> Trial:
    staged = source.stage(source.spec(format=form, max_record_bytes=limit_bytes))
    found = dict(source.rows(staged))
    apart = waiting(staged)
    # A NUL is no text that a database takes: its row waits, as one over the limit does.
    good = {a: b for (a, b), fit in zip(rows, fits, strict=True) if fit and "\0" not in b}
    told = sum("bytes" in reason or "NUL" in reason for reason, _, _ in apart)
    return Trial(
        "11",
        seed=seed,
        stage="extract",
        action=f"{kind} {form}",
        rows_expected=len(rows),
        rows_lost=len(good.keys() - found.keys()) + max(0, len(rows) - len(good) - len(apart)),
        rows_duplicated=len(source.rows(staged)) - len(found),
        wrong_values=sum(found[a] != b for a, b in good.items() if a in found),
        error="" if told == len(apart) else f"a row waits and why is not told: {apart[0][0]}",
        extra={
            "set_apart": len(apart),
            "limit_bytes": limit_bytes,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
    )

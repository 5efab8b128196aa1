"""Fault 12: bytes that are no text of the declared encoding: their record waits whole, no character is replaced."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator

from tests.campaign.campaign import Campaign
from tests.campaign.trial import Trial
from tests.integration.ingestion.folders import FolderSource, waiting

CODECS = {
    "utf-8": "utf-8",
    "utf-16": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "windows-1252": "cp1252",
    "gb18030": "gb18030",
}
"""Names in a spec, and Python's."""

BAD = {
    "utf-8": (b"\xe9", b"\xed\xa0\x80", b"\xc0\xaf", b"\xff", b"\xf4\x90\x80\x80"),
    "utf-16": (b"\x00\xd8", b"\x3d\xdc"),
    "utf-16-be": (b"\xd8\x00", b"\xdc\x3d"),
    "windows-1252": (b"\x81", b"\x8d"),
    "gb18030": (b"\xff",),
}
"""What is no character: a lone surrogate, an overlong form, a byte that the table leaves out."""

LETTERS = {
    "windows-1252": "aé€ñß ž",
    "gb18030": "a中文字é",
}
UNICODE = "aé€中\U0001f600e\u0301\u00e9\ufeff"
"""Among others a letter in two forms of normalisation, which stay two, and a mark of order in the middle of text."""


def trials(campaign: Campaign) -> Iterator[Trial]:
    """CSV objects of drawn text, some records of which hold bytes that are no character."""
    for seed in campaign.seeds(whole=50, quick=10):
        drawn = campaign.random(seed)
        encoding = list(CODECS)[seed % len(CODECS)]
        source = FolderSource(campaign.folder / str(seed))
        yield _trial(seed, encoding, drawn, source)


def _trial(seed: int, encoding: str, drawn: random.Random, source: FolderSource) -> Trial:
    codec = CODECS[encoding]
    letters = LETTERS.get(encoding, UNICODE)
    mark = {"utf-16": b"\xff\xfe", "utf-8": b"\xef\xbb\xbf" if drawn.random() < 0.5 else b""}.get(encoding, b"")
    content = mark + "a,b\n".encode(codec)
    good: dict[str, str] = {}
    bad: dict[str, bytes] = {}
    for number in range(40):
        key = "".join(drawn.choice(letters.replace("\ufeff", "").replace(" ", "")) for _ in range(3)) + f"{number}"
        text = "x" + "".join(drawn.choice(letters) for _ in range(drawn.randrange(20))) + "x"
        line = f"{key},{text}".encode(codec)
        if drawn.random() < 0.2:
            line += drawn.choice(BAD[encoding]) + "z".encode(codec)
            bad[key] = line
        else:
            good[key] = text
        content += line + "\n".encode(codec)
    source.put(content)
    staged = source.stage(source.spec(encoding=encoding))
    rows = source.rows(staged)
    found = dict(rows)
    kept = [base64.b64decode(row["base64"]) for _, _, row in waiting(staged)]
    placed = all("at byte" in reason for reason, _, _ in waiting(staged))
    return Trial(
        "12",
        seed=seed,
        stage="extract",
        action=encoding,
        rows_expected=len(good) + len(bad),
        rows_lost=len(good.keys() - found.keys()) + len(set(bad.values()) - set(kept)),
        rows_duplicated=len(rows) - len(found),
        wrong_values=sum(found[key] != text for key, text in good.items() if key in found) + len(found.keys() - good),
        error="" if placed else "a row waits and its byte is not told",
        extra={
            "set_apart": len(kept),
            "characters_replaced": sum(text.count("\ufffd") for _, text in rows),
        },
    )

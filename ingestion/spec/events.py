"""What starts the ingest of a table besides its schedule: a changed bucket, or a message on a queue."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from ingestion.spec.words import Name, SpecModel

_SUBJECT = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_*-]+)*(\.>)?$"


class Queue(SpecModel):
    """A NATS JetStream stream that tells of new objects or finished intervals."""

    connection: Name = Field(description="Name of the connection, a nats:// or tls:// URL.")
    stream: str = Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64, description="The stream; it must exist.")
    subject: str = Field(pattern=_SUBJECT, max_length=255, description="Messages of the stream that are read.")
    durable: str = Field(
        default="penstock", pattern=r"^[A-Za-z0-9_-]+$", max_length=64, description="Name of the durable consumer."
    )
    dead_letter: str = Field(
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        max_length=255,
        description="Subject, kept by a stream, to which messages go that are refused.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if _covers(self.subject, self.dead_letter):
            raise ValueError("dead_letter must not be one of the subjects that are read")
        return self


class Events(SpecModel):
    """What starts the ingest of this table besides its schedule."""

    watch: Literal["bucket"] | None = Field(default=None, description="Look for new and changed objects of the table.")
    poll_interval_s: float = Field(default=60, ge=1, le=86_400, description="Time between two looks, in s.")
    start: date | None = Field(default=None, alias="from", description="First day that is watched; all by default.")
    queue: Queue | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.watch is None and self.queue is None:
            raise ValueError("events needs 'watch: bucket' or 'queue: {...}'")
        given = self.model_fields_set & {"poll_interval_s", "start"}
        if self.watch is None and given:
            raise ValueError("poll_interval_s and from belong to 'watch: bucket'")
        return self


def _covers(pattern: str, subject: str) -> bool:
    """Whether a subject is one of those that a pattern of NATS means."""
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, words = wanted[:-1], words[: len(wanted) - 1] if len(words) >= len(wanted) else []
    return len(wanted) == len(words) and all(each in {"*", word} for each, word in zip(wanted, words, strict=True))

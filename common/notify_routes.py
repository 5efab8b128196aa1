"""Where messages about incidents go, and when: routes by severity and owner, quiet hours, reminders.

``PENSTOCK_NOTIFY_URLS`` is one route for everything. ``[notify.<name>]`` of the settings file (or
``PENSTOCK_NOTIFY__<NAME>__URL`` and its siblings) are others, each for the incidents it names. What a route leaves open
is said once for all of them. The decision of what is due when is made elsewhere; this only reads what was declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, time
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from common.errors import PenstockError
from common.intervals import zone

Severity = Literal["critical", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""The gravest first."""

_QUIET = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)(?: (\S+))?")
_PREFIX = "PENSTOCK_NOTIFY__"


class QuietHours(BaseModel):
    """A span of every day in which only critical incidents are told; the others wait for its end.

    Attributes:
        start, end: wall times; a span that ends before it starts goes over midnight.
        time_zone: whose clock.
    """

    model_config = ConfigDict(frozen=True)

    start: time
    end: time
    time_zone: str

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """Read ``22:00-07:00 Europe/Berlin``; without a zone it is UTC.

        Raises:
            ValueError: not of that form, an empty span, or no such zone.
        """
        found = _QUIET.fullmatch(text.strip())
        if found is None:
            raise ValueError("write a daily span as '22:00-07:00 Europe/Berlin'")
        start, end = time.fromisoformat(found[1]), time.fromisoformat(found[2])
        if start == end:
            raise ValueError("a daily span must not be empty")
        try:
            return cls(start=start, end=end, time_zone=zone(found[3] or "UTC").key)
        except PenstockError as error:
            raise ValueError(error.problem) from None

    def holds(self, moment: datetime) -> bool:
        """Whether an instant lies in the span, by the span's own clock."""
        now = moment.astimezone(ZoneInfo(self.time_zone)).time()
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


class NotifyRoute(BaseModel):
    """One receiver of messages and the incidents it is told of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr = Field(min_length=1, description="Apprise URL, or several separated by commas.")
    severities: tuple[Severity, ...] = Field(default=SEVERITIES, min_length=1, description="All by default.")
    owners: tuple[str, ...] = Field(default=(), description="Owners whose incidents it gets; all by default.")
    quiet_hours: QuietHours | None = Field(default=None, description="Instead of notify_quiet_hours.")
    remind_after_s: int | None = Field(default=None, ge=0, description="Instead of notify_remind_after_s.")

    @field_validator("severities", "owners", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """A variable holds them separated by commas."""
        return tuple(each.strip() for each in given.split(",") if each.strip()) if isinstance(given, str) else given

    @field_validator("quiet_hours", mode="before")
    @classmethod
    def _parse(cls, given: Any) -> Any:
        return QuietHours.parse(given) if isinstance(given, str) else given

    def wants(self, severity: str, owner: str) -> bool:
        """Whether an incident is told here."""
        return severity in self.severities and (not self.owners or owner in self.owners)


def routes_given(in_file: Any, environment: Mapping[str, str]) -> Any:
    """Routes by name as the settings file has them, single keys overridden by ``PENSTOCK_NOTIFY__<NAME>__<KEY>``.

    Args:
        in_file: the file's ``notify``; whatever it is, what is wrong with it is told where it is validated.
        environment: environment variables.
    """
    if in_file is not None and not isinstance(in_file, Mapping):
        return in_file
    found: dict[str, Any] = {name.lower(): given for name, given in (in_file or {}).items()}
    for variable, value in environment.items():
        name, separator, key = variable.removeprefix(_PREFIX).lower().partition("__")
        if variable.startswith(_PREFIX) and separator:
            before = found.get(name)
            found[name] = {**(before if isinstance(before, Mapping) else {}), key: value}
    return found

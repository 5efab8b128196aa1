"""What a fault's trials are given: how many, from which seed, a folder and services of their own.

A fault that no test of ``tests/`` proves by itself has a module ``tests/campaign/fault_NN.py``::

    PARTS = ("drop", "stall")         # optional: each is a job of its own; a quick campaign makes one of them all
    QUICK_PARTS = ("drop",)           # optional: those that a quick campaign makes


    def trials(campaign: Campaign) -> Iterator[Trial]:
        for seed in campaign.seeds(whole=30, quick=3):
            ...  # disturb, then count
            yield Trial("2", seed=seed, stage="extract", action="drop", rows_expected=900, rows_lost=0, ...)

A trial that finds a defect yields it as figures (``rows_lost=1``) or as ``error="..."``; what it raises ends the
fault's trials and is counted as one that failed. ``python -m tests.campaign.job 2 --quick`` runs one fault by hand.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from penstock import demo_data, embedded
from penstock.embedded import EmbeddedServices

_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 6 << 30  # noqa: S108 - mkdtemp makes the folder in it

FIRST_DAY, LAST_DAY = date(2013, 2, 10), date(2013, 2, 14)
"""Days of the demo data in the services: some, so that they are soon there. On 2013-02-12 a row of the weather goes
to quarantine."""


class Campaign:
    """One job of a campaign.

    Attributes:
        seed: of the whole campaign.
        quick: whether a sample is enough.
        part: which of the module's ``PARTS``; empty means all of it.
        folder: a folder of this job's own, empty at first, removed at its end.
    """

    def __init__(self, folder: Path, *, seed: int, quick: bool, part: str = "") -> None:
        self.folder, self.seed, self.quick, self.part = folder, seed, quick, part
        self._held = contextlib.ExitStack()
        self._services: EmbeddedServices | None = None

    @property
    def services(self) -> EmbeddedServices:
        """PostgreSQL and S3 of this job's own with some days of the demo data, started when first asked for."""
        if self._services is None:
            home = self.folder / "services"
            self._held.callback(embedded.remove, home)
            self._services = self._held.enter_context(EmbeddedServices.start(home))
            demo_data.seed(self._services, first_day=FIRST_DAY, last_day=LAST_DAY)
        return self._services

    def seeds(self, *, whole: int, quick: int) -> range:
        """A seed per trial: as many as a whole campaign or a quick one makes, other ones for another campaign."""
        first = self.seed * 1_000_000
        return range(first, first + (quick if self.quick else whole))

    def random(self, seed: int) -> random.Random:
        """Random numbers of one trial of this part."""
        return random.Random(f"{self.part}/{seed}")

    def close(self) -> None:
        """Stop the services."""
        self._held.close()


@contextlib.contextmanager
def campaign(*, seed: int, quick: bool, part: str = "") -> Iterator[Campaign]:
    """A job's campaign in a folder that is removed at the end.

    It is in memory where there is room: a killed process leaves what the kernel has, and a disk would only be slower.
    """
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    folder = Path(tempfile.mkdtemp(prefix="penstock-faults-", dir=_MEMORY if roomy else None))
    folder.chmod(0o711)  # PostgreSQL runs under an account of its own where this one is root
    made = Campaign(folder, seed=seed, quick=quick, part=part)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)

"""What travels through a stage: a staged batch in, a receipt out.

::

    staged  = stage.write(batch)             files nobody reads
    verdict = gate.audit(staged)             fails closed
    receipt = lake.publish(staged, verdict)  one commit

A receipt is written before the commit and becomes true by the commit: it counts only while the data files that carry
its attempt id are live in the table's current snapshot. So the ledger and the interval state are always read from the
lake itself; there is no second set of books.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self

from common.errors import GateRefused
from lake.paths import TableId

if TYPE_CHECKING:
    import pyarrow as pa

    EARLY_REJECTS_SCHEMA: pa.Schema
    """Rows that could not even be written with their declared types: rule, reason, where they stand, the row as it
    came."""


@cache
def _early_rejects_schema() -> pa.Schema:
    import pyarrow as pa  # as in common/verdict.py

    names = ("rule", "reason", "position", "row")
    return pa.schema([pa.field(name, pa.string(), nullable=False) for name in names])


def __getattr__(name: str) -> Any:
    if name == "EARLY_REJECTS_SCHEMA":
        return _early_rejects_schema()
    raise AttributeError(name)


@dataclass(frozen=True)
class MergeRule:
    """How a batch meets the rows that are live already, where it does not simply take their place.

    Attributes:
        keys: columns that name one row.
        versions: columns whose larger value is the newer version of a row, the most significant first; a null is the
            oldest. Rows of the batch win where all are equal.
        moves: a row may come again in another partition. Its older version then goes from where it was, and live rows
            of the batch's own partition that did not come again stay: they may have moved on.
        marks: live rows of the batch's own partition that did not come again stay, marked as deleted in the source.
        max_deleted_share: largest share of the table's rows that one batch may mark; None for any.
    """

    keys: tuple[str, ...]
    versions: tuple[str, ...] = ()
    moves: bool = False
    marks: bool = False
    max_deleted_share: float | None = None


State = Literal["published", "unchanged", "outside coverage"]


@dataclass(frozen=True)
class StagedBatch:
    """The rows of one table for one interval, written where nobody reads.

    Attributes:
        table: the lake table they are for.
        key: partition key, or :data:`lake.paths.WHOLE`.
        attempt: id of this attempt; names the files.
        files: locations of the staged Parquet files.
        rows_in: rows that came in, the early rejects and dropped duplicates included.
        rows_staged: rows in ``files``.
        deduplicated: older versions of a key that were dropped.
        code: digest of everything that decides how rows become this batch: spec, function, suite, versions.
        source_state: what the source looked like: row counts, objects with etag and size (JSON-compatible).
        upstream: batch ids of the lake batches this one was made from, by ``table`` or ``table/key``.
        set_apart: rows that could not be written, as :data:`EARLY_REJECTS_SCHEMA` has them; None if there are none.
        warnings: what the reader should know of the source, such as columns that the spec does not name.
        merge: how it meets the rows that are live; None: it takes their place.
        drift: how the source's schema differs from the spec, one entry per finding (see ``ingestion/drift``).
        base: attempt that was live for the partition before anything was read, empty if none was. Where another run has
            published the partition since, what was read may be older than what is live. None: nobody looked.
    """

    table: TableId
    key: str
    attempt: str
    files: tuple[str, ...]
    rows_in: int
    rows_staged: int
    code: str
    deduplicated: int = 0
    source_state: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, str] = field(default_factory=dict)
    set_apart: pa.Table | None = None
    warnings: tuple[str, ...] = ()
    merge: MergeRule | None = None
    drift: tuple[dict[str, Any], ...] = ()
    base: str | None = None

    @property
    def early_rejects(self) -> pa.Table:
        """The rows set apart, perhaps none."""
        return _early_rejects_schema().empty_table() if self.set_apart is None else self.set_apart

    @property
    def early_rejected(self) -> int:
        """How many rows were set apart."""
        return 0 if self.set_apart is None else self.set_apart.num_rows


@dataclass(frozen=True)
class Receipt:
    """The account of one batch: ``rows_in = published + quarantined + deduplicated``.

    Attributes:
        table, key: which rows.
        stage: ``ingest`` or ``refine``.
        attempt: id of the attempt that wrote the live files.
        batch_id: digest of table, key, content and code: the same work has the same id.
        run_id: the run that published it.
        rows_in, published, quarantined, deduplicated: the row account.
        state: ``published`` now, or found ``unchanged``, or ``outside coverage`` of the source.
        checksum: order-independent checksum of the staged rows.
        code: as in :class:`StagedBatch`.
        source_state, upstream: as in :class:`StagedBatch`.
        verdict: the gate's verdict (:meth:`common.verdict.Verdict.to_dict`).
        published_at: UTC, ISO 8601.
        seconds: time each step took, by name.
        warnings, drift: as in :class:`StagedBatch`.
        staged_id: the id of the staged batch that last came for this partition, where merging made something else of
            it; work is recognised by it. Empty where ``batch_id`` says it; ``none`` where it must not be recognised.
        carried: of the rows in and published, those that were live before and did not come again.
        deleted: of the rows published, those marked as deleted in the source.
        touched: keys of other partitions that the same commit rewrote.
        because: of the rows deduplicated, how many for which reason.
        replayed: of the rows published, those that waited in quarantine before.
        discarded: of the rows quarantined, those that nobody needs any more; the others wait.
        proof: how the rows of exactly this attempt's files are recognised (``lake/proof.py``); empty if they are not.
        repairs: attempts whose records say which rows of this partition were repaired or discarded, oldest first.
    """

    table: str
    key: str
    stage: str
    attempt: str
    batch_id: str
    run_id: str
    rows_in: int
    published: int
    quarantined: int
    deduplicated: int
    state: State = "published"
    checksum: str = ""
    code: str = ""
    source_state: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, str] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    published_at: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    drift: tuple[dict[str, Any], ...] = ()
    staged_id: str = ""
    carried: int = 0
    deleted: int = 0
    touched: tuple[str, ...] = ()
    because: dict[str, int] = field(default_factory=dict)
    replayed: int = 0
    discarded: int = 0
    proof: str = ""
    repairs: tuple[str, ...] = ()

    @property
    def came_as(self) -> str:
        """Id of the staged batch it was made from."""
        return self.staged_id or self.batch_id

    @property
    def rewritten(self) -> bool:
        """Whether the rows were judged under another attempt, and only written anew by work on other rows."""
        return bool(self.staged_id) and not self.seconds

    @property
    def partition_key(self) -> str:
        """The partition key."""
        return self.key

    @property
    def balanced(self) -> bool:
        """Whether every row that came in is accounted for, and no part is larger than its whole."""
        return (
            self.rows_in == self.published + self.quarantined + self.deduplicated
            and 0 <= self.discarded <= self.quarantined
            and 0 <= self.replayed <= self.published
            and self.deduplicated >= sum(self.because.values())
        )

    @property
    def waiting(self) -> int:
        """Rows in quarantine that may still be repaired."""
        return self.quarantined - self.discarded

    def found_unchanged(self, **changes: Any) -> Receipt:
        """This receipt as the answer to a rerun that had nothing to do."""
        return replace(self, state="unchanged", **changes)

    def came_anew(self, staged_id: str) -> Receipt:
        """This receipt as one whose staged batch has another id."""
        return replace(self, staged_id=staged_id)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """A receipt from its JSON-compatible form, perhaps of an earlier version.

        Raises:
            TypeError, AttributeError: it is none.
        """
        lists = {name: tuple(plain.get(name, ())) for name in ("warnings", "drift", "touched", "repairs")}
        return cls(**{**plain, **lists})

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form; its parts are this receipt's own, to be read only."""
        return {name: getattr(self, name) for name in _RECEIPT_FIELDS}


_RECEIPT_FIELDS = tuple(each.name for each in fields(Receipt))


def unaccounted(receipt: Receipt, problem: str | None = None) -> GateRefused:
    """The refusal of a batch whose row account does not add up; nothing can switch it off."""
    found = problem or (
        f"{receipt.rows_in} in, {receipt.published} published ({receipt.replayed} of them replayed), "
        f"{receipt.quarantined} quarantined ({receipt.discarded} of them discarded), "
        f"{receipt.deduplicated} deduplicated"
    )
    return GateRefused(
        f"The row account does not add up: {found}.",
        table=receipt.table,
        interval=receipt.key,
        remedy="this is a defect of Penstock: report it with this message; nothing was published",
    )

"""The table of schema drift: eight kinds, the policies for each, two readers, and what becomes of the rows.

``test_drift.py`` runs every case and compares each row with the source; ``docs/drift.md`` holds the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

COLUMNS = ("id", "note", "amount", "qty", "code")
"""Columns of the table before it drifts: int32 key, string, decimal(10,2), int32, string without nulls."""

Ends = Literal["published", "refused", "not loaded"]
REFUSED = "the batch is refused"
NOT_LOADED = "the spec is refused when it is loaded"


@dataclass(frozen=True)
class Case:
    """One cell.

    Attributes:
        kind: the drift, with its variant in brackets where it has two.
        policy: what the spec says.
        reader: which reader.
        change: SQL of the drift, or the new text of the object.
        says: what becomes of the rows, for the documentation.
        ends: how the second run ends.
        quarantined: ids of the rows in quarantine, one per row.
        columns: lake column to source column, None where the source has none; those of :data:`COLUMNS` by default.
        found: whether the schema itself shows the drift, so that a finding is recorded.
    """

    kind: str
    policy: str
    reader: Literal["database", "objects"]
    change: str
    says: str
    ends: Ends = "published"
    quarantined: tuple[int, ...] = ()
    columns: dict[str, str | None] = field(default_factory=lambda: {name: name for name in COLUMNS})
    found: bool = True

    @property
    def key(self) -> str:
        """The kind as ``on_drift`` spells it."""
        return self.kind.split(" ")[0]

    def __str__(self) -> str:
        return f"{self.kind}-{self.policy}-{self.reader}".replace(" ", "_")


SAME = {name: name for name in COLUMNS}
HEAD = "id,note,amount,qty,code"
ROWS = "1,a,1.25,10,x\n2,b,2.50,20,y\n3,,,,z\n"
FOURTH = "INSERT INTO {s}.t VALUES (4, 'd', 4.00, %s, %s)"

DATABASE = {
    "added": "ALTER TABLE {s}.t ADD extra int; UPDATE {s}.t SET extra = 7 WHERE id = 2",
    "dropped": "ALTER TABLE {s}.t DROP note",
    "renamed": "ALTER TABLE {s}.t RENAME note TO notes",
    "widened": "ALTER TABLE {s}.t ALTER qty TYPE bigint; INSERT INTO {s}.t VALUES (4, 'd', 4, 5000000000, 'w')",
    "narrowed (every value fits)": "ALTER TABLE {s}.t ALTER amount TYPE numeric(6,2)",
    "narrowed (another type)": "ALTER TABLE {s}.t ALTER qty TYPE text USING qty::text",
    "nullability": "ALTER TABLE {s}.t ALTER code DROP NOT NULL; INSERT INTO {s}.t VALUES (4, 'd', 4, 40, NULL)",
    "reordered": "ALTER TABLE {s}.t RENAME TO old; CREATE TABLE {s}.t (code text NOT NULL, id int PRIMARY KEY, "
    "note text, qty int, amount numeric(10,2)); INSERT INTO {s}.t SELECT code, id, note, qty, amount FROM {s}.old",
    "key_changed": "ALTER TABLE {s}.t DROP CONSTRAINT t_pkey; ALTER TABLE {s}.t ADD PRIMARY KEY (id, code)",
}
OBJECTS = {
    "added": f"{HEAD},extra\n1,a,1.25,10,x,\n2,b,2.50,20,y,7\n3,,,,z,\n",
    "dropped": "id,amount,qty,code\n1,1.25,10,x\n2,2.50,20,y\n3,,,z\n",
    "renamed": f"id,notes,amount,qty,code\n{ROWS}",
    "widened": f"{HEAD}\n{ROWS}4,d,4.00,5000000000,w\n",
    "narrowed (every value fits)": f"{HEAD}\n{ROWS}4,d,4,4,w\n",
    "narrowed (another type)": f"{HEAD}\n1,a,1.25,ten,x\n2,b,2.50,20,y\n3,,,,z\n",
    "nullability": f"{HEAD}\n{ROWS}4,d,4.00,40,\n",
    "reordered": "code,id,note,qty,amount\nx,1,a,10,1.25\ny,2,b,20,2.50\nz,3,,,\n",
    "key_changed": f"{HEAD}\n{ROWS}",
}


def _both(kind: str, policy: str, says: str, ends: Ends = "published", **options: object) -> Iterator[Case]:
    yield Case(kind, policy, "database", DATABASE[kind], says, ends, **options)  # type: ignore[arg-type]
    yield Case(kind, policy, "objects", OBJECTS[kind], says, ends, **options)  # type: ignore[arg-type]


def _database(kind: str, policy: str, says: str, ends: Ends = "published", more: str = "", **options: object) -> Case:
    return Case(kind, policy, "database", DATABASE[kind] + more, says, ends, **options)  # type: ignore[arg-type]


def _objects(kind: str, policy: str, says: str, ends: Ends = "published", **options: object) -> Case:
    return Case(kind, policy, "objects", OBJECTS[kind], says, ends, **options)  # type: ignore[arg-type]


def _cases() -> Iterator[Case]:
    note_gone = SAME | {"note": None}
    yield from _both("added", "ignore", "the column is not read, and a warning says so")
    yield from _both(
        "added", "evolve", "the lake gets the column, older rows are null", columns=SAME | {"extra": "extra"}
    )
    yield from _both("added", "reject", REFUSED, "refused")
    yield from _both("added", "quarantine", "rows with a value in the column go to quarantine", quarantined=(2,))

    yield from _both("dropped", "evolve", "the lake keeps the column, new rows are null", columns=note_gone)
    yield from _both("dropped", "reject", REFUSED, "refused")
    yield from _both("dropped", "quarantine", NOT_LOADED, "not loaded")

    yield from _both(
        "renamed", "evolve", "read under its new name if the guess is clear", columns=SAME | {"note": "notes"}
    )
    yield from _both("renamed", "reject", REFUSED, "refused")
    yield from _both("renamed", "quarantine", NOT_LOADED, "not loaded")

    unread = "values that are no such number go to quarantine"
    yield _database("widened", "evolve", "the lake column is widened, every value is kept")
    yield _database("widened", "reject", REFUSED, "refused")
    yield _database("widened", "quarantine", "rows with a value that does not fit go to quarantine", quarantined=(4,))
    for policy in ("evolve", "reject", "quarantine"):
        yield _objects("widened", policy, unread, quarantined=(4,), found=False)

    kind = "narrowed (every value fits)"
    yield _database(kind, "evolve", "read as declared")
    yield _database(kind, "reject", REFUSED, "refused")
    yield _database(kind, "quarantine", "read as declared: no row does not fit")
    for policy in ("evolve", "reject", "quarantine"):
        yield _objects(kind, policy, "read as declared: text shows no type", found=False)

    kind = "narrowed (another type)"
    yield _database(kind, "evolve", REFUSED, "refused")
    yield _database(kind, "reject", REFUSED, "refused")
    yield _database(
        kind,
        "quarantine",
        "rows with a value in the column go to quarantine",
        quarantined=(1, 2),
    )
    for policy in ("evolve", "reject", "quarantine"):
        yield _objects(kind, policy, unread, quarantined=(1,), found=False)

    judged = "the gate rejects rows with a null, unless the suite says otherwise"
    yield from _both("nullability", "evolve", judged, quarantined=(4,))
    yield _database("nullability", "reject", REFUSED, "refused")
    yield _objects("nullability", "reject", "the batch is refused if it has a null", "refused")
    yield from _both("nullability", "quarantine", "rows with a null go to quarantine", quarantined=(4,))

    yield from _both("reordered", "evolve", "read by name")
    yield from _both("reordered", "reject", REFUSED, "refused")
    yield from _both("reordered", "quarantine", NOT_LOADED, "not loaded")

    doubled = "; INSERT INTO {s}.t VALUES (1, 'e', 5, 50, 'w')"
    yield _database(
        "key_changed", "evolve", "the declared key goes on while it names one row, else the batch is refused"
    )
    yield _database("key_changed", "reject", REFUSED, "refused")
    yield _database(
        "key_changed", "quarantine", "rows that share a declared key go to quarantine", more=doubled, quarantined=(1, 1)
    )
    for policy in ("evolve", "reject", "quarantine"):
        yield _objects("key_changed", policy, NOT_LOADED, "not loaded")


CASES = tuple(_cases())


def table() -> str:
    """The cases as a table in Markdown."""
    lines = ["| kind | policy | databases | text objects |", "|---|---|---|---|"]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for case in CASES:
        cells.setdefault((case.kind, case.policy), {})[case.reader] = case.says
    for (kind, policy), readers in cells.items():
        lines.append(
            f"| `{kind.split(' ')[0]}`{kind[len(kind.split(' ')[0]) :]} | `{policy}` | "
            f"{readers['database']} | {readers['objects']} |"
        )
    return "\n".join(lines)

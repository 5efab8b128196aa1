"""A state folder into which a restore has not finished may not be used: nobody reads half of a lake.

``<home>/restoring.json`` is there from before the first file to behind the last one; its removal publishes the restore.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import StateCorrupt
from common.files import sync_folder, write_atomic

_FILE = "restoring.json"


def unfinished_restore(home: Path) -> dict[str, Any] | None:
    """What a restore into this state folder, which has not finished, has noted; None if there is none."""
    try:
        found = json.loads((home / _FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def note_restore(home: Path, content: dict[str, Any]) -> None:
    """Note that a restore is under way. Side effects: from now on nobody else uses the state folder."""
    write_atomic(home / _FILE, json.dumps(content))


def end_restore(home: Path) -> None:
    """The restore is done: everybody may use the state folder."""
    (home / _FILE).unlink()
    sync_folder(home)


def refuse_unfinished(home: Path) -> None:
    """Refuse to use a state folder into which a restore has not finished.

    Raises:
        StateCorrupt: that is so.
    """
    found = unfinished_restore(home)
    if found is not None:
        raise StateCorrupt(
            f"A restore of backup {found.get('backup')} into {home} has not finished.",
            remedy="run the same 'penstock restore' again: it goes on where it was",
        )

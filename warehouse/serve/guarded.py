"""Guarded SQL as every door asks for it: a caller's statement, over what the caller's role sees of one release."""

from __future__ import annotations

from warehouse.serve.formats import Format
from warehouse.serve.opened import Follower, OpenRelease
from warehouse.serve.problems import Problem
from warehouse.serve.sandbox import Answer, Sandbox, Statement


def run_guarded(
    sandbox: Sandbox | None,
    follower: Follower,
    opened: OpenRelease,
    role: str,
    sql: str,
    kind: Format,
    *,
    head: str = "",
    parameters: bytes = b"",
    describe: bool = False,
) -> Answer:
    """Run a statement in a process of its own.

    Args:
        sandbox: runs it; None where this machine cannot.
        follower: knows where the release's file lies.
        opened: the release that is read.
        role: whose datasets there are.
        sql: the caller's text.
        kind: how the answer is wanted.
        head: of JSON, what stands before the rows.
        parameters: values of its ``?``, see :class:`Statement`.
        describe: whether only the columns are wanted, and no row.

    Raises:
        Problem: ``sql_unavailable``, ``unknown_release``, and what :meth:`Sandbox.run` raises.
    """
    if sandbox is None:
        raise Problem("sql_unavailable", "Guarded SQL is not served here.", remedy="use the datasets' routes")
    views = {name: each.guarded() for name, each in opened.shown(role).items()}
    statement = Statement(sql, views, kind, head=head, parameters=parameters, describe=describe)
    return sandbox.run(follower.folder(opened), statement)

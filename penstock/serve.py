"""The door that serves: settings and pipeline facts handed to :mod:`warehouse.serve`, which knows neither."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from common.errors import SettingsError, UsageError
from common.settings import Settings
from penstock.kept import Kept
from warehouse.serve.facts import DatasetFacts
from warehouse.serve.keys import Issuer
from warehouse.serve.sandbox import Limits
from warehouse.serve.server import ServerOptions
from warehouse.stored import stored_releases

if TYPE_CHECKING:
    from penstock.lineage import Graph
    from penstock.pipeline import Pipeline

FACTS_S = 30.0
"""How long facts on a dataset are kept, in s: states of intervals are derived from the whole lake."""

_DURATION = re.compile(r"(\d{1,6})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def server_options(settings: Settings) -> ServerOptions:
    """What the settings say about serving.

    Raises:
        SettingsError: there is no policy file; or the place of the releases cannot be used.
    """
    if not settings.policy.is_file():
        raise SettingsError(
            f"There is no policy file {settings.policy}: nobody could see anything.",
            remedy="write one as docs/policy.md says, or name it with --policy or PENSTOCK_POLICY",
        )
    issuers = (each.partition(" ") for each in settings.token_issuers)
    return ServerOptions(
        warehouse=settings.warehouse,
        releases=stored_releases(settings),
        state=settings.home / "serve",
        policy=settings.policy,
        issuers=tuple(Issuer(name, jwks_url.strip()) for name, _, jwks_url in issuers),
        audience=settings.token_audience,
        role_claim=settings.token_role_claim,
        requests_per_min=settings.requests_per_min,
        redis_url=settings.cache_url.get_secret_value(),
        memory_limit_mb=settings.memory_limit_mb,
        sql=Limits(
            wall_s=settings.sql_timeout_s, cpu_s=int(settings.sql_timeout_s) + 1, memory_mb=settings.sql_memory_limit_mb
        ),
    )


def parse_duration_s(text: str) -> int:
    """``30s``, ``15m``, ``12h`` or ``90d`` in s.

    Raises:
        UsageError: it is none, or nothing.
    """
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not seconds:
        raise UsageError(f"{text!r} is no duration.", remedy="write 30s, 15m, 12h or 90d")
    return seconds


class PipelineFacts:
    """Owners, lineage and states of intervals, as the lake and the lineage events have them.

    Args:
        settings: where lake, specs and releases are; they are loaded when the first fact is asked for.
        clock: monotonic time in s.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._kept = Kept(FACTS_S, clock)

    @cached_property
    def _pipeline(self) -> Pipeline:
        from penstock.pipeline import Pipeline

        return Pipeline(self._settings)

    def dataset(self, name: str) -> DatasetFacts:
        """Facts on a dataset of the release, at most :data:`FACTS_S` old."""
        found: DatasetFacts = self._kept.get(f"dataset {name}", lambda: self._dataset(name))
        return found

    def _dataset(self, name: str) -> DatasetFacts:
        from penstock.facts import FACTS
        from penstock.interval_state import HOLES, interval_states

        upstream, downstream = self._lineage(name)
        counts, newest = None, ""
        if name in {fact for fact, _ in FACTS.values()}:
            [states] = interval_states(self._pipeline, [name])
            counts = {state: count for state, count in states.count().items() if count}
            newest = max((each.key for each in states.intervals if each.state not in {*HOLES, "outside"}), default="")
        return DatasetFacts(self._owners(name), upstream, downstream, counts, newest)

    def _owners(self, name: str) -> list[str]:
        """Owners of the sources that a model is made from, directly or not."""
        from penstock.model_graph import refined_inputs

        refined = [self._pipeline.refined(each.removeprefix("refined.")) for each in refined_inputs(name)]
        raw = {table for each in refined for table in (*each.inputs.values(), *each.reference_inputs.values())}
        sources = self._pipeline.sources().values()
        return sorted({spec.owner for spec in sources for each in spec.tables if str(spec.raw(each.name)) in raw})

    def _lineage(self, name: str) -> tuple[list[str], list[str]]:
        from penstock.lineage import graph_of

        graph: Graph = self._kept.get("lineage", lambda: graph_of(self._settings))
        table = next((each for each in (name, f"warehouse.{name}") if each in graph.tables), None)
        if table is None:
            return [], []
        up, down = graph.walk(table, None, "upstream"), graph.walk(table, None, "downstream")
        return [each.table for each in up], [each.table for each in down]

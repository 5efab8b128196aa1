"""Schema drift: the columns a source has now, compared with those its spec declares, and what the spec makes of it.

::

    spec + observed columns + keys -> findings (eight kinds)  -> receipt, warnings, penstock drift
                                   -> what to read            -> the reader: which columns, under which names and types
                                   -> what rows may not hold  -> the reader: those rows go to quarantine

Pure: a reader says what it sees, this package says what follows, the reader does it. Nothing is remembered between
runs: the spec, the source and the lake table's own schema say all there is to know, so a run never rewrites a spec. A
finding carries the line to write into the spec instead. Whatever the policy, no value is converted into something else
and none is left out without a word.
"""

from ingestion.drift.compare import compare
from ingestion.drift.findings import (
    KINDS,
    Comparison,
    Finding,
    Fit,
    Kind,
    Observed,
    Outcome,
    Suspect,
    merged,
    refuse,
    warnings_of,
)
from ingestion.drift.words import common_type, related, yaml_line

__all__ = [
    "KINDS",
    "Comparison",
    "Finding",
    "Fit",
    "Kind",
    "Observed",
    "Outcome",
    "Suspect",
    "common_type",
    "compare",
    "merged",
    "refuse",
    "related",
    "warnings_of",
    "yaml_line",
]

"""A contract of the Open Data Contract Standard as a source spec and starting suites.

Of a contract that Penstock has exported the same spec and rules come back. Of any other one, what the standard says is
taken: types, nullability, keys, personal data, quality of the kinds that have an expectation; whatever is left out is
told, so that nobody believes a rule to be judged that is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.errors import SpecError, UsageError
from common.yaml_files import YamlFile
from ingestion.spec import SourceSpec
from penstock.contracts import own, refuse_invalid, type_word_of
from quality.suite import Suite

_KINDS = {"postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql"}
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SEVERITIES = {"critical": "critical", "error": "critical", "high": "critical", "warning": "warning"}
_SEVERITIES |= {"medium": "warning", "info": "info", "low": "info"}


@dataclass
class Imported:
    """What a contract becomes.

    Attributes:
        source: name of the source.
        spec: the whole spec, with the contract's tables only.
        suites: suite by raw table name.
        left_out: what has no place in a spec or suite, in words.
    """

    source: str
    spec: dict[str, Any]
    suites: dict[str, dict[str, Any]]
    left_out: list[str] = field(default_factory=list)


def read_import(contract: Mapping[str, Any], origin: str, *, source: str | None = None) -> Imported:
    """What a contract becomes; checked by the models that will load it.

    Args:
        contract: the contract.
        origin: where it stands, for messages.
        source: name of the source; by default the contract's own.

    Raises:
        SpecError: it is no contract of the standard, or its tables cannot be a source's.
        UsageError: it is of a table that Penstock makes itself, or of a source that it cannot read.
    """
    refuse_invalid(dict(contract), origin)
    declared = own(dict(contract), "source")
    if str(contract.get("name", "")).startswith(("refined.", "warehouse.")) and declared is None:
        raise UsageError(
            f"{origin} is the contract of {contract['name']}, which is made here and read from no source.",
            remedy="import contracts of raw tables, or of other systems",
        )
    left_out: list[str] = []
    if declared is not None:
        spec = {**declared, "description": own(dict(contract), "sourceDescription") or ""}
    else:
        spec = _foreign_source(contract, origin)
    if source is not None:
        spec["source"] = source
    tables, suites = [], {}
    for each in contract.get("schema") or ():
        table = _table(each, contract, left_out, foreign=declared is None)
        raw = f"{spec['source']}__{table['name']}"
        tables.append(table)
        suites[raw] = _suite(each, raw, table, left_out, foreign=declared is None)
    spec["tables"] = tables
    try:
        SourceSpec.model_validate(spec)
        for suite in suites.values():
            Suite.model_validate(suite)
    except ValueError as error:
        problem = " ".join(str(error).split())
        raise SpecError(f"{origin} does not make a valid spec: {problem}", remedy="correct the contract") from None
    return Imported(spec["source"], spec, suites, left_out)


def files_of_import(imported: Imported, sources: Path, suites: Path, origin: str) -> dict[Path, str]:
    """Every file that an import writes with its text: the spec, whole or with the tables added, and the suites.

    Raises:
        UsageError: the source has such a table already, or its spec does not end with its tables.
    """
    path = sources / f"{imported.source}.yml"
    if path.exists():
        text = _with_tables(path, imported)
    else:
        text = f"# Imported from the data contract {origin}.\n{_dump(imported.spec)}"
    SourceSpec.model_validate(yaml.safe_load(text))
    files = {path: text}
    for raw, suite in imported.suites.items():
        files[suites / "raw" / f"{raw}.yml"] = f"# Imported from the data contract {origin}.\n{_dump(suite)}"
    return files


def _with_tables(path: Path, imported: Imported) -> str:
    file = YamlFile.read(path, remedy="see docs/source-specs.md")
    there = {table["name"] for table in file.content.get("tables") or ()}
    doubled = sorted(there & {table["name"] for table in imported.spec["tables"]})
    if doubled:
        raise UsageError(
            f"{path} has a table {doubled[0]!r} already.",
            source=imported.source,
            remedy="see what an import would say with --print, or give the source another name with --source",
        )
    root = file.root
    if not isinstance(root, yaml.MappingNode) or root.value[-1][0].value != "tables":
        raise UsageError(
            f"{path} does not end with its tables, so none can be added behind them.",
            source=imported.source,
            remedy="move `tables:` to its end, or print the table with --print and put it in yourself",
        )
    indent = " " * root.value[-1][1].start_mark.column
    added = "".join(f"{indent}{line}\n" if line else "\n" for line in _dump(imported.spec["tables"]).splitlines())
    return f"{path.read_text(encoding='utf-8').rstrip()}\n\n{added}"


def _dump(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    return text


# -- the spec ----------------------------------------------------------------------------------------------------------


def _foreign_source(contract: Mapping[str, Any], origin: str) -> dict[str, Any]:
    servers = contract.get("servers") or []
    known = [server for server in servers if server.get("type") in _KINDS]
    if not known:
        types = ", ".join(str(server.get("type")) for server in servers) or "none"
        raise UsageError(
            f"{origin} names no PostgreSQL or MySQL server (it names: {types}).",
            remedy="add the database under `servers:`; of files a contract does not say how their keys name a day: "
            "describe those with 'penstock init'",
        )
    members = (contract.get("team") or {}).get("members", []) if isinstance(contract.get("team"), dict) else []
    owners = [m["username"] for m in members if m.get("username") and m.get("role") in {"owner", "Owner"}]
    owners += [m["username"] for m in members if m.get("username")]
    name = _slug(str(contract.get("name") or contract["id"]))
    return {
        "source": name,
        "kind": _KINDS[known[0]["type"]],
        "connection": name,
        "owner": owners[0] if owners else str((contract.get("team") or {}).get("name") or "unknown"),
        "description": (contract.get("description") or {}).get("purpose", ""),
    }


def _table(
    each: Mapping[str, Any], contract: Mapping[str, Any], left_out: list[str], *, foreign: bool
) -> dict[str, Any]:
    columns: list[dict[str, Any]] = []
    keys: list[tuple[int, str]] = []
    for found in each.get("properties") or ():
        if own(found, "addedBy"):
            continue
        column = _column(found, each["name"], left_out)
        if column is None:
            continue
        columns.append(column)
        if found.get("primaryKey"):
            keys.append((found.get("primaryKeyPosition", 0), column["name"]))
    table: dict[str, Any] = {"name": _slug(each["name"])}
    if foreign:
        table |= _foreign_table(each, contract, table["name"])
    else:
        table = dict(own(dict(each), "table") or {}) or table
    if keys:
        table["primary_key"] = [name for _, name in sorted(keys)]
    if each.get("description"):
        table["description"] = each["description"]
    if foreign:
        for column in columns:
            if column["name"] in table.get("primary_key", ()):
                column["nullable"] = False
    return {**table, "columns": columns}


def _foreign_table(each: Mapping[str, Any], contract: Mapping[str, Any], name: str) -> dict[str, Any]:
    table: dict[str, Any] = {"mode": "snapshot"}
    in_source = str(each.get("physicalName") or each["name"]).rsplit(".", 1)
    if in_source[-1] != name:
        table["source_name"] = in_source[-1]
    schemas = [server["schema"] for server in contract.get("servers") or () if server.get("schema")]
    if len(in_source) == 2 or schemas:
        table["schema"] = in_source[0] if len(in_source) == 2 else schemas[0]
    for sla in contract.get("slaProperties") or ():
        unit = _SECONDS.get(str(sla.get("unit", "d")).lower()) or _SECONDS.get(str(sla.get("unit", "d")).lower()[:1])
        if sla.get("property") == "freshness" and unit and isinstance(sla.get("value"), int | float):
            table["freshness"] = {"max_age_s": int(sla["value"] * unit)}
    return table


def _column(found: Mapping[str, Any], table: str, left_out: list[str]) -> dict[str, Any] | None:
    size = (found.get("logicalTypeOptions") or {}).get("format")
    word = type_word_of(found.get("logicalType"), found.get("physicalType"), size)
    if word is None:
        kind = found.get("physicalType") or found.get("logicalType") or "no type"
        left_out.append(f"column {table}.{found['name']}: no type word holds {kind}")
        return None
    column: dict[str, Any] = {"name": _slug(found["name"]), "type": word, "nullable": not found.get("required", False)}
    in_source = found.get("physicalName") or found["name"]
    if in_source != column["name"]:
        column["source_name"] = in_source
    personal = own(dict(found), "pii")
    if personal is None and "pii" in {str(tag).lower() for tag in found.get("tags") or ()}:
        personal = True
    if personal:
        column["pii"] = personal
    if found.get("description"):
        column["description"] = found["description"]
    return column | dict(own(dict(found), "column") or {})


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60]
    return slug if slug[:1].isalpha() else f"t_{slug}"


# -- the suite ---------------------------------------------------------------------------------------------------------


def _suite(
    each: Mapping[str, Any], raw: str, table: Mapping[str, Any], left_out: list[str], *, foreign: bool
) -> dict[str, Any]:
    rules = [rule for quality in each.get("quality") or () if (rule := _rule(quality, None, each["name"], left_out))]
    if foreign:
        for found in each.get("properties") or ():
            rules += _implied(found)
            for quality in found.get("quality") or ():
                rule = _rule(quality, _slug(found["name"]), each["name"], left_out)
                rules += [rule] if rule else []
        if len(table.get("primary_key", ())) > 1:
            keys = {"column_list": list(table["primary_key"])}
            rules.append(_made("key_is_unique", "expect_compound_columns_to_be_unique", keys, "The primary key."))
    if not rules:
        kwargs = {"min_value": 1}
        why = "The contract states no rule; that nothing came at all is worth a look."
        rules = [_made("batch_has_rows", "expect_table_row_count_to_be_between", kwargs, why, "warning")]
    made: dict[str, Any] = {"suite": f"raw/{raw}"}
    if foreign and each.get("description"):
        made["description"] = each["description"]
    return {
        **made,
        **(own(dict(each), "suite") or {}),
        "expectations": list({rule["id"]: rule for rule in rules}.values()),
    }


def _made(identity: str, expect: str, kwargs: dict[str, Any], why: str, severity: str = "critical") -> dict[str, Any]:
    return {"id": identity, "expect": expect, "kwargs": kwargs, "severity": severity, "why": why}


def _rule(quality: Mapping[str, Any], column: str | None, table: str, left_out: list[str]) -> dict[str, Any] | None:
    """One item of quality as a rule; None, and a word about it, if no expectation says the same."""
    name = str(quality.get("id") or quality.get("name") or quality.get("metric") or "rule")
    identity = re.sub(r"\W", "_", f"{column}_{name}" if column and not quality.get("id") else name)
    identity = identity if not identity[:1].isdigit() else f"r_{identity}"
    why = str(quality.get("description") or "The contract says so.")
    severity = _SEVERITIES.get(str(quality.get("severity", "critical")).lower(), "critical")
    implementation = quality.get("implementation")
    if quality.get("type") == "custom" and isinstance(implementation, Mapping):
        engine = str(quality.get("engine", "")).replace("-", "").lower()
        if engine == "greatexpectations" and "type" in implementation:
            kwargs = dict(implementation.get("kwargs") or {})
            mostly = kwargs.pop("mostly", None)
            rule = _made(identity, implementation["type"], kwargs, why, severity)
            return rule if mostly is None else {**rule, "mostly": mostly}
    found = next(_library(quality, column), None) if quality.get("type", "library") == "library" else None
    if found is None:
        place = f"{table}.{column}" if column else table
        left_out.append(f"quality {name!r} of {place}: no expectation says the same")
        return None
    expect, kwargs = found
    return _made(identity, expect, kwargs, why, severity)


def _library(quality: Mapping[str, Any], column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The expectation that says what one of the standard's metrics says."""
    metric, arguments = quality.get("metric"), quality.get("arguments") or {}
    none_allowed = quality.get("mustBe") == 0 or quality.get("mustBeLessOrEqualTo") == 0
    if metric == "rowCount":
        low = quality.get("mustBeGreaterOrEqualTo", (quality.get("mustBeBetween") or [None])[0])
        if "mustBeGreaterThan" in quality:
            low = int(quality["mustBeGreaterThan"]) + 1
        high = quality.get("mustBeLessOrEqualTo", (quality.get("mustBeBetween") or [None, None])[1])
        if "mustBeLessThan" in quality:
            high = int(quality["mustBeLessThan"]) - 1
        bounds = {"min_value": low, "max_value": high}
        if low is not None or high is not None:
            given = {key: value for key, value in bounds.items() if value is not None}
            yield "expect_table_row_count_to_be_between", given
    elif not none_allowed:
        return
    elif metric in {"nullValues", "missingValues"} and column:
        yield "expect_column_values_to_not_be_null", {"column": column}
    elif metric == "duplicateValues" and (column or arguments.get("properties")):
        columns = [_slug(name) for name in arguments.get("properties") or [column]]
        if len(columns) == 1:
            yield "expect_column_values_to_be_unique", {"column": columns[0]}
        else:
            yield "expect_compound_columns_to_be_unique", {"column_list": columns}
    elif metric == "invalidValues" and column and "validValues" in arguments:
        yield "expect_column_values_to_be_in_set", {"column": column, "value_set": list(arguments["validValues"])}
    elif metric == "invalidValues" and column and "pattern" in arguments:
        yield "expect_column_values_to_match_regex", {"column": column, "regex": arguments["pattern"]}


def _implied(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rules that a property itself states."""
    column, options = _slug(found["name"]), found.get("logicalTypeOptions") or {}
    if found.get("required") or found.get("primaryKey"):
        expect = "expect_column_values_to_not_be_null"
        yield _made(f"{column}_is_given", expect, {"column": column}, "The contract requires it.")
    if found.get("unique"):
        expect = "expect_column_values_to_be_unique"
        yield _made(f"{column}_is_unique", expect, {"column": column}, "The contract says it is unique.")
    bounds = {"min_value": options.get("minimum"), "max_value": options.get("maximum")}
    if any(value is not None for value in bounds.values()):
        kwargs = {"column": column, **{key: value for key, value in bounds.items() if value is not None}}
        yield _made(f"{column}_is_in_range", "expect_column_values_to_be_between", kwargs, "The contract's bounds.")
    lengths = {"min_value": options.get("minLength"), "max_value": options.get("maxLength")}
    if any(value is not None for value in lengths.values()):
        kwargs = {"column": column, **{key: value for key, value in lengths.items() if value is not None}}
        expect = "expect_column_value_lengths_to_be_between"
        yield _made(f"{column}_has_its_length", expect, kwargs, "The contract's bounds of its length.")
    if "pattern" in options:
        kwargs = {"column": column, "regex": options["pattern"]}
        yield _made(f"{column}_matches", "expect_column_values_to_match_regex", kwargs, "The contract's pattern.")
    if found.get("enum"):
        kwargs = {"column": column, "value_set": [each["value"] for each in found["enum"]]}
        yield _made(f"{column}_is_known", "expect_column_values_to_be_in_set", kwargs, "The contract's values.")

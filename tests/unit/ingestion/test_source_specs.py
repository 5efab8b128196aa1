"""Laws of source specs: nonsense is refused at load time, with file, line and remedy."""

import json
from pathlib import Path

import pytest

from common.errors import SpecError
from ingestion import spec as specs

SOURCES = Path(specs.__file__).parent.parent / "sources"

GOOD = """\
source: shop
kind: postgresql
connection: shop
time_zone: Europe/Berlin
owner: team@example.org
tables:
  - name: orders
    mode: incremental
    primary_key: [id]
    cursor: {column: placed_at}
    columns:
      - {name: id, type: int64, nullable: false}
      - {name: placed_at, type: timestamptz, nullable: false}
      - {name: total, type: "decimal(12,2)"}
"""


def load(tmp_path: Path, text: str) -> specs.SourceSpec:
    path = tmp_path / "shop.yml"
    path.write_text(text)
    return specs.load_source(path)


def test_a_good_spec_loads_and_cannot_be_changed(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD)
    assert [column.name for column in spec.table("orders").lake_columns()] == ["ds", "id", "placed_at", "total"]
    with pytest.raises(ValueError, match="frozen"):
        spec.owner = "nobody"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("owner:", "ownr:", 5, "unknown key"),
        ("    mode: incremental", "    mode: incremental\n    colour: red", 9, "unknown key"),
        ("mode: incremental", "mode: whenever", 8, "snapshot"),
        ("primary_key: [id]", "primary_key: [order_id]", 7, "primary_key names 'order_id'"),
        ("primary_key: [id]", "primary_key: []", 7, "mode incremental needs 'primary_key"),
        ("    cursor: {column: placed_at}\n", "", 7, "mode incremental needs 'cursor"),
        ("cursor: {column: placed_at}", "cursor: {column: total}", 7, "timestamptz or date"),
        ("{name: id, type: int64, nullable: false}", "{name: id, type: int64}", 7, "nullable: false"),
        ("type: int64", "type: integer", 12, "Unknown column type 'integer'"),
        ('"decimal(12,2)"', '"decimal(12,13)"', 14, "decimal(12,13)"),
        ("name: total", "name: id", 7, "stands twice"),
        ("name: total", "name: ds", 7, "Penstock adds itself"),
        ("name: total", 'name: "x; drop table y"', 14, "lower-case"),
        ("Europe/Berlin", "Europe/Bielefeld", 4, "Unknown time zone"),
        ("kind: postgresql", "kind: objects", 1, "does not fit a source of kind objects"),
        ("tables:", "tables: [", 7, ""),
        ("name: total", "policy: cast, name: total", 14, "say with 'why:'"),
        ("name: total", "policy: cast, why: ' ', name: total", 14, "say with 'why:'"),
        ("name: total", "why: It is so, name: total", 14, "belongs to 'policy: cast'"),
        ("name: total", "policy: rounded, name: total", 14, "'exact' or 'cast'"),
        ("name: id, type: int64", "name: id, type: int64, policy: cast, why: x", 7, "two keys one"),
        ("type: timestamptz", "type: timestamptz, policy: cast, why: x", 7, "asked of the column itself"),
    ],
)
def test_nonsense_is_refused_with_file_line_and_remedy(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in GOOD
    with pytest.raises(SpecError) as refused:
        load(tmp_path, GOOD.replace(old, new, 1))
    message = str(refused.value)
    assert f"shop.yml:{line}: " in message
    assert says in message
    assert "Remedy: " in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match=r"shop\.yml:1"):
        load(tmp_path, text)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        specs.load_source(tmp_path / "shop.yml")
    with pytest.raises(SpecError, match="No source spec"):
        specs.load_sources(tmp_path)


def test_a_connection_is_a_name_and_never_a_url(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="lower-case"):
        load(tmp_path, GOOD.replace("connection: shop", "connection: postgresql://u:p@h/d"))


def test_an_object_key_names_its_interval_by_the_template() -> None:
    weather = specs.load_source(SOURCES / "stations.yml").table("weather")
    assert weather.objects is not None
    match = weather.objects.key_pattern().fullmatch("weather/origin=JFK/date=2013-01-31.csv.gz")
    assert match is not None
    assert match["key"] == "2013-01-31"
    for other in ("weather/origin=JFK/x/date=2013-01-31.csv.gz", "weather/origin=JFK/date=2013-01-31.csv", "x"):
        assert weather.objects.key_pattern().fullmatch(other) is None


def test_the_json_schema_in_the_tree_is_the_one_the_models_make() -> None:
    assert json.loads((SOURCES / "schema.json").read_text()) == specs.json_schema()

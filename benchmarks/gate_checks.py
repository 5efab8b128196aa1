"""The 25 checks on TPC-H ``lineitem`` that every way of ``benchmarks/gates.py`` makes, and the floor: one SQL query.

Plain data without imports: it is read by environments that have nothing of Penstock.
"""

KEY = ("l_orderkey", "l_linenumber")
NOT_NULL = (
    "l_orderkey",
    "l_partkey",
    "l_suppkey",
    "l_linenumber",
    "l_quantity",
    "l_extendedprice",
    "l_shipdate",
    "l_comment",
)
BETWEEN: dict[str, tuple[float, float]] = {
    "l_linenumber": (1, 7),
    "l_quantity": (1, 50),
    "l_extendedprice": (900, 105_000),
    "l_discount": (0, 0.1),
    "l_tax": (0, 0.08),
}
IN_SET = {
    "l_returnflag": ("A", "N", "R"),
    "l_linestatus": ("F", "O"),
    "l_shipinstruct": ("COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN"),
    "l_shipmode": ("AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"),
}
LENGTHS: dict[str, tuple[float, float]] = {"l_comment": (1, 44)}
REGEX = {"l_shipmode": "^[A-Z ]+$"}
LATER = (("l_receiptdate", "l_shipdate"),)
"""The first column is the later one."""

MEAN: dict[str, tuple[float, float]] = {"l_quantity": (20, 30)}
MAX: dict[str, tuple[float, float]] = {"l_discount": (0.05, 0.1)}
QUERY = "l_shipdate < date '1992-01-01' or l_commitdate > date '1998-12-31'"
"""True on a bad row."""

ROWS = (1_000, 100_000_000)

BAD_ROWS = """
    select * replace (
        case when k % 500 = 7 then -1 else l_quantity end as l_quantity,
        case when k % 500 = 107 then null else l_comment end as l_comment,
        case when k % 500 = 207 then 'BIKE' else l_shipmode end as l_shipmode,
        case when k % 500 = 307 then l_shipdate - 1 else l_receiptdate end as l_receiptdate,
        case when k % 500 = 407 then 9 else l_linenumber end as l_linenumber)
    from (select *, row_number() over () as k from {rows}) as t
"""
"""One row in a hundred is bad, in five ways; ``k`` is left out by who writes it."""


def rules() -> list[tuple[str, str, dict[str, object]]]:
    """The checks as Great Expectations has them: id, expectation, arguments."""
    value = "expect_column_values_to_"
    made: list[tuple[str, str, dict[str, object]]] = [
        ("rows", "expect_table_row_count_to_be_between", {"min_value": ROWS[0], "max_value": ROWS[1]}),
        ("key", "expect_compound_columns_to_be_unique", {"column_list": list(KEY)}),
    ]
    made += [(f"{name}_given", f"{value}not_be_null", {"column": name}) for name in NOT_NULL]
    for name, (low, high) in BETWEEN.items():
        made.append((f"{name}_range", f"{value}be_between", {"column": name, "min_value": low, "max_value": high}))
    for name, values in IN_SET.items():
        made.append((f"{name}_known", f"{value}be_in_set", {"column": name, "value_set": list(values)}))
    for name, (low, high) in LENGTHS.items():
        lengths = {"column": name, "min_value": low, "max_value": high}
        made.append((f"{name}_length", "expect_column_value_lengths_to_be_between", lengths))
    for name, regex in REGEX.items():
        made.append((f"{name}_shape", f"{value}match_regex", {"column": name, "regex": regex}))
    for later, earlier in LATER:
        pair: dict[str, object] = {"column_A": later, "column_B": earlier}
        made.append((f"{later}_after", "expect_column_pair_values_a_to_be_greater_than_b", pair))
    for name, (low, high) in MEAN.items():
        mean = {"column": name, "min_value": low, "max_value": high}
        made.append((f"{name}_mean", "expect_column_mean_to_be_between", mean))
    for name, (low, high) in MAX.items():
        made.append(
            (f"{name}_max", "expect_column_max_to_be_between", {"column": name, "min_value": low, "max_value": high})
        )
    query = f"select row_number from {{batch}} where {QUERY}"
    made.append(("dates", "unexpected_rows_expectation", {"unexpected_rows_query": query}))
    return made


def floor_query(rows: str) -> str:
    """The same checks as a person would write them for one pass, and the key in a second one; counts of bad rows."""
    bad = [f"{name} is null" for name in NOT_NULL]
    bad += [f"{name} not between {low} and {high}" for name, (low, high) in BETWEEN.items()]
    bad += [f"{name} not in {values!r}" for name, values in IN_SET.items()]
    bad += [f"length({name}) not between {low} and {high}" for name, (low, high) in LENGTHS.items()]
    bad += [f"not regexp_matches({name}, '{regex}')" for name, regex in REGEX.items()]
    bad += [f"{later} <= {earlier}" for later, earlier in LATER]
    bad.append(QUERY)
    counts = ", ".join(f"count(*) filter (where {condition})" for condition in bad)
    figures = ", ".join([*(f"avg({name})" for name in MEAN), *(f"max({name})" for name in MAX)])
    key = ", ".join(KEY)
    repeated = f"(select count(*) from (select 1 from {rows} group by {key} having count(*) > 1))"
    return f"select count(*), {counts}, {figures}, {repeated} from {rows}"

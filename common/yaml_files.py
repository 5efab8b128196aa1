"""YAML files checked against a pydantic model, with errors that name file, line and remedy.

Source specs and suites are both read here, so a mistake in either is told in the same way. Keys written twice are
refused too: YAML itself would silently keep the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from common.errors import SpecError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C, an eighth of the time, which every wheel of the library has."""

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]


@dataclass(frozen=True)
class YamlFile:
    """One YAML mapping and where each part of it stands.

    Attributes:
        path: the file.
        content: its keys and values.
        root: YAML's own tree of it, for line numbers.
    """

    path: Path
    content: dict[str, Any]
    root: yaml.Node | None

    @classmethod
    def read(cls, path: Path, *, remedy: str) -> YamlFile:
        """Read a file.

        Args:
            path: the file.
            remedy: what to do when there is no such file or no mapping in it.

        Raises:
            SpecError: it cannot be read, is not UTF-8, not YAML, not a mapping, or has a key twice.
        """
        try:
            text = path.read_text(encoding="utf-8")
            root = yaml.compose(text, Loader=_LOADER)
            content = yaml.load(text, Loader=_LOADER)  # noqa: S506 - both are safe loaders
        except OSError as error:
            raise SpecError(f"{path} cannot be read: {error.strerror}.", remedy=remedy) from None
        except UnicodeDecodeError:
            raise SpecError(f"{path}:1: not UTF-8 text.", remedy="save it as UTF-8") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            parts = [getattr(error, name, None) for name in ("context", "problem")]
            problem = ", ".join(part for part in parts if part) or "it cannot be parsed"
            raise SpecError(f"{path}:{line}: not valid YAML: {problem}.", remedy="correct it at that line") from None
        for node, key in _repeated_keys(root):
            raise SpecError(
                f"{path}:{node.start_mark.line + 1}: key {key!r} is written twice.", remedy="keep one of the two"
            )
        if not isinstance(content, dict):
            raise SpecError(f"{path}:1: expected a mapping of keys to values.", remedy=remedy)
        return cls(path, content, root)

    def line(self, location: Sequence[int | str]) -> int:
        """One-based line of the deepest part on the way to a location."""
        node, line = self.root, 1
        for step in location:
            found: yaml.Node | None = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == str(step):
                        found, line = value, key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                found = node.value[step]
                line = found.start_mark.line + 1
            if found is None:
                break
            node = found
        return int(line)

    def parse(self, model: type[Model], *, remedy: Callable[[str, Location], str]) -> Model:
        """The content as a model.

        Args:
            model: the model.
            remedy: given pydantic's kind of the first problem and its location, what to do.

        Raises:
            SpecError: it does not fit; every problem is listed as ``file:line: place: problem``.
        """
        try:
            return model.model_validate(self.content)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            problems = [
                f"{self.path}:{self.line(each['loc'])}: {_dotted(each['loc'])}{_sentence(each['type'], each['msg'])}"
                for each in found
            ]
            first = found[0]
            raise SpecError("; ".join(problems) + ".", remedy=remedy(first["type"], first["loc"])) from None


def load_model(path: Path, model: type[Model], *, remedy: str) -> Model:
    """Read a YAML file into a model.

    Raises:
        SpecError: see :meth:`YamlFile.read` and :meth:`YamlFile.parse`.
    """
    return YamlFile.read(path, remedy=remedy).parse(model, remedy=lambda _kind, _location: remedy)


def _dotted(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location) + ": " if location else ""


def _sentence(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _repeated_keys(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, str]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield key, name
            seen.add(name)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated_keys(value)

"""Iceberg's files on the local disk, opened by Python itself.

The library's own way goes through Arrow's data set module, which loads pandas: 60 MB and a second of CPU in every
process that commits, to read and write a few kilobytes. Paths are taken as they are, without percent-decoding.
"""

from __future__ import annotations

from pathlib import Path

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

from lake.paths import engine_path


class LocalFile(InputFile, OutputFile):
    """One file, to be read or written."""

    @property
    def _path(self) -> Path:
        return Path(engine_path(self.location))

    def __len__(self) -> int:
        return self._path.stat().st_size

    def exists(self) -> bool:
        """Whether it is there."""
        return self._path.exists()

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 - the library's signature
        """Its bytes.

        Raises:
            FileNotFoundError: it is not there.
        """
        return self._path.open("rb")

    def to_input_file(self) -> LocalFile:
        """The file, to be read."""
        return self

    def create(self, overwrite: bool = False) -> OutputStream:
        """A stream that writes it. Side effects: its folder is made.

        Raises:
            FileExistsError: it is there and may not be overwritten.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("wb" if overwrite else "xb")


class LocalFileIO(FileIO):
    """What the library asks for files; named in the catalog's properties."""

    def new_input(self, location: str) -> LocalFile:
        """A file to be read."""
        return LocalFile(location)

    def new_output(self, location: str) -> LocalFile:
        """A file to be written."""
        return LocalFile(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file.

        Raises:
            FileNotFoundError: it is not there.
        """
        Path(engine_path(location if isinstance(location, str) else location.location)).unlink()

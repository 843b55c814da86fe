"""An artifact store at any URL that fsspec knows, such as gs:// and az://."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from optuna.artifacts.exceptions import ArtifactNotFound

from search.storage.artifact_store import check_id
from search.storage.errors import StorageError
from search.storage.texts import printable

READ_ONLY = ("http", "https")


class FsspecStore:
    """Objects <prefix>/<id>.

    Args:
        url: As fsspec has it, such as gs://bucket/prefix.

    Raises:
        StorageError: fsspec does not know the URL, or lacks the package for it.
    """

    def __init__(self, url: str) -> None:
        protocol = url.partition("://")[0]
        try:
            if protocol in READ_ONLY:
                raise ValueError("nothing can be stored there")
            self._files, self._prefix = url_to_fs(url)
        except (ImportError, ValueError, TypeError) as error:
            raise StorageError(
                f"--artifacts {printable(protocol)}://…: {error}; choices are a folder and s3://bucket/prefix, or "
                "a URL of fsspec whose package is installed, such as gs://bucket/prefix with gcsfs"
            ) from error

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """As `ArtifactStore`."""
        try:
            return io.BytesIO(self._files.cat_file(self._path(artifact_id)))
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {artifact_id}") from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """As `ArtifactStore`."""
        self._files.pipe_file(self._path(artifact_id), content_body.read())

    def remove(self, artifact_id: str) -> None:
        """As `ArtifactStore`."""
        try:
            self._files.rm_file(self._path(artifact_id))
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {artifact_id}") from error

    def remove_stale_parts(self) -> None:
        """Does nothing: a bucket has no partial objects."""

    def sizes(self, artifact_ids: Collection[str]) -> dict[str, int]:
        """As `ArtifactStore`: one listing."""
        try:
            found: list[dict[str, Any]] = self._files.ls(self._prefix, detail=True) if artifact_ids else []
        except FileNotFoundError:
            return {}
        sizes = {each["name"].rpartition("/")[2]: int(each["size"] or 0) for each in found}
        return {each: sizes[each] for each in artifact_ids if each in sizes}

    def _path(self, artifact_id: str) -> str:
        check_id(artifact_id)
        return f"{self._prefix}/{artifact_id}"

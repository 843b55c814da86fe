"""Stores the files of finished trials in a folder or a bucket; both are Optuna artifact stores.

The store knows a file by its id only. The file's name and trial are written when the trial ends, in the format of
`optuna.artifacts.upload_artifact`, so every program that supports Optuna's artifacts can read them.
"""

from __future__ import annotations

import contextlib
import io
import json
import mimetypes
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from search.storage.errors import StorageError
from search.storage.private_files import make_private_folder, open_private
from search.storage.texts import error_text, printable

ARTIFACTS_FOLDER = "artifacts"  # in the folder `--out`
ATTR_PREFIX = "artifacts:"  # of the system attributes; Optuna's
STALE_S = 3600.0
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMESPACE = uuid.UUID("6f0b0d0e-6c5c-4f5c-9d0a-3f1d4f2f7a11")
_MIME_TYPES = {
    **{".safetensors": "application/octet-stream", ".csv": "text/csv", ".gz": "application/gzip"},
    **dict.fromkeys((".txt", ".log"), "text/plain; charset=utf-8"),
}


class ArtifactStore(Protocol):
    """The methods that Optuna requires of an artifact store, and two more."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content; raises ArtifactNotFound."""
        ...

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store the content, replacing an earlier one."""
        ...

    def remove(self, artifact_id: str) -> None:
        """Delete the content; raises ArtifactNotFound if the store can detect that."""
        ...

    def remove_stale_parts(self) -> None:
        """Remove partial files that killed writers left."""
        ...

    def sizes(self, artifact_ids: Collection[str]) -> dict[str, int]:
        """The bytes of those artifacts that are there, by id."""
        ...


class FolderStore:
    """Files <root>/<id>, as `optuna.artifacts.FileSystemArtifactStore` lays them out.

    Unlike that store, it never exposes a partial file, opens only its own regular files, and creates its folder at the
    first write.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._parts = root, root / ".parts"

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """As `ArtifactStore`; a link is not followed: it could lead out of the folder."""
        try:
            handle = os.open(self._path(artifact_id), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise _not_found(f"no artifact {artifact_id}") from error
        return os.fdopen(handle, "rb")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """As `ArtifactStore`.

        Raises:
            OSError: The disk is full, or the folder cannot be written; nothing is changed then.
        """
        path = self._path(artifact_id)
        aside = self._parts / f"{artifact_id}.{os.getpid()}"
        try:
            try:
                file = open_private(aside, "wb")
            except FileNotFoundError:
                make_private_folder(self._parts)
                file = open_private(aside, "wb")
            # No fsync, which would cost more than the rest of a short trial: a power cut can lose files of the last
            # seconds, but results and provenance are in the database.
            with file:
                shutil.copyfileobj(content_body, file)
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise

    def remove(self, artifact_id: str) -> None:
        """As `ArtifactStore`."""
        try:
            self._path(artifact_id).unlink()
        except FileNotFoundError as error:
            raise _not_found(f"no artifact {artifact_id}") from error

    def remove_stale_parts(self) -> None:
        """As `ArtifactStore`; a part younger than an hour can still be in use."""
        for part in self._parts.glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > STALE_S:
                    part.unlink()

    def sizes(self, artifact_ids: Collection[str]) -> dict[str, int]:
        """As `ArtifactStore`."""
        from optuna.artifacts.exceptions import ArtifactNotFound  # late, as in `_not_found`

        found = {}
        for each in artifact_ids:
            with contextlib.suppress(OSError, ArtifactNotFound):
                found[each] = self._path(each).lstat().st_size
        return found

    def _path(self, artifact_id: str) -> Path:
        check_id(artifact_id)
        return self.root / artifact_id


class BucketStore:
    """Objects <prefix><id> of a bucket, through `optuna.artifacts.Boto3ArtifactStore`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        from optuna.artifacts import Boto3ArtifactStore

        self._store, self._prefix = Boto3ArtifactStore(bucket), prefix

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """As `ArtifactStore`."""
        return self._store.open_reader(self._key(artifact_id))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """As `ArtifactStore`."""
        self._store.write(self._key(artifact_id), content_body)

    def remove(self, artifact_id: str) -> None:
        """As `ArtifactStore`."""
        self._store.remove(self._key(artifact_id))

    def remove_stale_parts(self) -> None:
        """Does nothing: a bucket has no partial objects."""

    def sizes(self, artifact_ids: Collection[str]) -> dict[str, int]:
        """As `ArtifactStore`: one request for a thousand objects of the bucket and prefix."""
        pages = self._store.client.get_paginator("list_objects_v2")
        wanted, found = set(artifact_ids), {}
        for page in pages.paginate(Bucket=self._store.bucket, Prefix=self._prefix) if wanted else ():
            for each in page.get("Contents", ()):
                name = each["Key"].removeprefix(self._prefix)
                if name in wanted:
                    found[name] = each["Size"]
        return found

    def _key(self, artifact_id: str) -> str:
        check_id(artifact_id)
        return self._prefix + artifact_id


def check_id(artifact_id: str) -> None:
    """Raise ArtifactNotFound unless this is an id that `artifact_id` makes, so that no other file is touched."""
    if not _ID.fullmatch(artifact_id):
        raise _not_found(f"{artifact_id!r} is not an artifact id")


def _not_found(message: str) -> Exception:
    # Imported late: `optuna.artifacts` imports boto3, if that is installed, which takes longer than the rest of Optuna.
    from optuna.artifacts.exceptions import ArtifactNotFound

    return ArtifactNotFound(message)


def artifact_store(artifacts: str | None, out: Path) -> ArtifactStore | None:
    """The artifact store that the options `--artifacts` and `--out` name; nothing is written.

    Args:
        artifacts: A folder, s3://bucket/prefix, another URL of fsspec, or "none"; None is a folder in `out`.
        out: Folder of checkpoints and logs.

    Returns:
        The store; None for "none".

    Raises:
        StorageError: `artifacts` names no store.
    """
    return None if artifacts == "none" else open_store(artifacts or str(out / ARTIFACTS_FOLDER))


def open_store(where: str) -> ArtifactStore:
    """The artifact store that a folder's path, s3://bucket/prefix or another URL of fsspec names; nothing is written.

    Raises:
        StorageError: An unknown URL, no bucket, a file in the folder's place, or a package is not installed.
    """
    if "://" not in where:
        path = Path(where)
        try:
            is_file = path.exists() and not path.is_dir()
        except (OSError, ValueError) as error:  # a name that no file has
            raise StorageError(f"--artifacts {printable(where)} cannot be a folder: {error}") from error
        if is_file:
            raise StorageError(f"--artifacts {where} is a file; name a folder, or s3://bucket/prefix")
        return FolderStore(path)
    try:
        parts = urlsplit(where)
    except ValueError as error:
        raise StorageError(f"--artifacts: {error}; choices are a folder and s3://bucket/prefix") from error
    if "@" in parts.netloc:
        raise StorageError(
            f"--artifacts {parts.scheme}://…@{parts.hostname}: others could read a key in the URL; give the keys of a "
            "bucket in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not parts.hostname:
        raise StorageError(f"--artifacts {parts.scheme}://…: choices are a folder and s3://bucket/prefix")
    if parts.scheme != "s3":
        from search.storage.fsspec_store import FsspecStore

        return FsspecStore(where)
    prefix = parts.path.strip("/")
    try:
        return BucketStore(parts.netloc, f"{prefix}/" if prefix else "")
    except ImportError as error:
        raise StorageError(f"--artifacts {where} needs boto3: pip install 'lm-search[s3]'") from error


@contextlib.contextmanager
def bucket_errors() -> Iterator[None]:
    """Raise what the library of a bucket raises as a StorageError; a folder's errors and missing files stay."""
    try:
        yield
    except Exception as error:
        from optuna.artifacts.exceptions import ArtifactNotFound  # late, as in `_not_found`

        if isinstance(error, OSError | ArtifactNotFound | StorageError):
            raise
        # Of botocore, which is imported only for a bucket.
        raise StorageError(
            f"the artifact store answered: {error_text(error)}; check the name of the bucket and your credentials, "
            "then run the same command again"
        ) from error


def artifact_id(identity: str, token: int, name: str) -> str:
    """The id of a trial's file.

    Args:
        identity: Identifies the trial across databases.
        token: The token of the trial's lease: a worker that lost its lease without noticing must not replace the files
            of the worker that took over.
        name: The file's name.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{identity} {token} {name}"))


def put(store: ArtifactStore, file_id: str, name: str, content: bytes) -> dict[str, str]:
    """Store a file.

    Returns:
        The system attribute, key and value, that makes the file an artifact of a trial.
    """
    store.write(file_id, io.BytesIO(content))
    mime_type = _MIME_TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    # The fields of `optuna.artifacts.ArtifactMeta`.
    meta = {"artifact_id": file_id, "filename": name, "mimetype": mime_type, "encoding": None}
    return {ATTR_PREFIX + file_id: json.dumps(meta)}

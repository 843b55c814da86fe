"""Unfinished databases of lm-search from before it was one package; see tests/storage/data/old_main."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from postgres import PostgresServer
from sqlalchemy.engine import make_url

DATA = Path(__file__).parents[1] / "storage" / "data" / "old_main"


def copy_studies(folder: Path) -> None:
    """Copy the study files, their modules and their corpus."""
    shutil.copytree(DATA / "studies", folder, dirs_exist_ok=True)


def restore_out(kind: str, folder: Path) -> None:
    """Restore the folder `--out`, with the checkpoints, of the database "sqlite" or "postgresql"."""
    with tarfile.open(DATA / kind / "search-out.tar.gz") as tar:
        tar.extractall(folder, filter="data")


def restore_sqlite(folder: Path) -> str:
    """Restore the SQLite database and return its URL."""
    (folder / "search.db").write_bytes(gzip.decompress((DATA / "sqlite" / "search.db.gz").read_bytes()))
    return f"sqlite:///{folder / 'search.db'}"


def restore_postgres(server: PostgresServer, url: str) -> None:
    """Restore the PostgreSQL database into the empty schema of a URL."""
    schema = str(make_url(url).query["options"]).partition("search_path=")[2]
    sql = gzip.decompress((DATA / "postgresql" / "search.sql.gz").read_bytes()).decode()
    server.execute(f'SET search_path TO "{schema}";\n{sql}')


def expected() -> tuple[dict[str, Any], dict[tuple[str, int], dict[str, Any]]]:
    """The results of an undisturbed run of the old version: its environment, and its trials by study and number."""
    read = json.loads((DATA / "expected.json").read_text())
    return read["environment"], {(each["study"], each["number"]): each for each in read["trials"]}

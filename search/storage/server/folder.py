"""The folder of a private server: its files, and what each is for."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from search.storage.errors import StorageError
from search.storage.private_files import make_private_folder
from search.storage.texts import printable

USER = "search"
DATABASE = "postgres"  # initdb makes it
PREFIX = "server:"
_MARK = "lm-search-database.txt"
_MARK_TEXT = """\
A database server of lm-search: a private PostgreSQL, its password, certificate and logs.
Use it with: --storage server:FOLDER
Never copy the folder while the server runs; make a copy with: lm-search database --folder FOLDER --backup FILE
"""


@dataclass(frozen=True)
class ServerFolder:
    """The folder of a server.

    Attributes:
        path: Its absolute path.
    """

    path: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.path / "data"

    @property
    def password_file(self) -> Path:
        """The password of the user `search`."""
        return self.path / "password"

    @property
    def certificate(self) -> Path:
        """The certificate that clients trust, and that the server shows."""
        return self.path / "certificate.pem"

    @property
    def key(self) -> Path:
        """The certificate's private key."""
        return self.path / "key.pem"

    @property
    def log(self) -> Path:
        """What the server and PostgreSQL have said."""
        return self.path / "server.log"

    @property
    def is_made(self) -> bool:
        """Whether a server has been started here before."""
        return (self.path / _MARK).exists()

    def __str__(self) -> str:
        return printable(str(self.path))

    def check(self) -> None:
        """Check that the folder is a server's, or can become one.

        Raises:
            StorageError: It is not, in one line.
        """
        try:
            if self.is_made:
                return
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise StorageError(f"{self} is not the folder of a database server: give a new folder, or an empty one")
        except (OSError, ValueError) as error:  # also a name that no file has
            raise StorageError(f"{self}: {error}; give another folder") from error

    def make(self) -> None:
        """Create the folder and mark it as a server's.

        Raises:
            StorageError: It belongs to something else, or cannot be written.
        """
        self.check()
        try:
            if not self.path.parent.is_dir():
                raise StorageError(
                    f"{self}: the folder {printable(str(self.path.parent))} does not exist; create it first"
                )
            make_private_folder(self.path)
            if not self.is_made:
                (self.path / _MARK).write_text(_MARK_TEXT, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{self}: {error.strerror}; give another folder") from error

    def make_secrets(self) -> None:
        """Make the password and the certificate, unless they are there.

        Raises:
            StorageError: There is no program `openssl`.
        """
        if not self.password_file.exists():
            _write_secret(self.password_file, secrets.token_urlsafe(24))
        if not (self.certificate.exists() and self.key.exists()):
            self._make_certificate()

    def _make_certificate(self) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            raise StorageError("the program openssl is missing, which makes the server's certificate; install openssl")
        _write_secret(self.key, "")  # openssl would write a new file that others can read
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "36500", "-subj", "/CN=lm-search", "-keyout", str(self.key), "-out", str(self.certificate)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["no message"]
            raise StorageError(f"openssl could not make the certificate of {self}: {printable(said[-1])}")

    def password(self) -> str:
        """The password of the user `search`.

        Raises:
            StorageError: It cannot be read.
        """
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise StorageError(
                f"cannot read {printable(str(self.password_file))} ({error.strerror}): only the user who made the "
                "server can use it"
            ) from error


def server_folder(name: str | Path) -> ServerFolder:
    """The folder with a name, such as DIR of "server:DIR"."""
    return ServerFolder(Path(name).expanduser().absolute())


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only this user can read, at once or not at all."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.rename(path)

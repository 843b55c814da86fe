"""`git add -A` after the steps of README and docs stages no secret, no study of a person, and no result."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What the steps make, besides what they say themselves.
MADE = (
    *("study/token", "study/my_study.toml", "study/text.txt", ".env", ".env.local", "token", "token.txt"),
    *("search.db", "search.db-wal", "search.db-shm", "search.db.schema-1.bak", "search-backup.db", "search.dump"),
    *("search-out/artifacts/x", "search-out/logs/worker-cpu-0.log", ".venv/bin/python", "build/site/index.html"),
)


def secrets_of_the_documentation() -> set[str]:
    """Files that commands of README and docs write random bytes to."""
    found: set[str] = set()
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "docker-compose.yml"):
        for line in page.read_text(encoding="utf-8").splitlines():
            for target in re.findall(r"openssl rand[^>|]*>\s*([^\s);]+)", line):
                names = re.findall(r"for \w+ in ([^;]+);", line)
                found |= {re.sub(r"\$\{?\w+\}?", name, target) for name in (names[0].split() if names else [""])}
    return found


def test_nothing_is_staged(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    shutil.copy(ROOT / ".gitignore", clone)
    secrets = secrets_of_the_documentation()
    assert {"secrets/db_password", "secrets/token"} <= secrets
    for name in (*secrets, *MADE):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("secret")
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    staged = subprocess.run(["git", "diff", "--cached", "--name-only"], cwd=clone, capture_output=True, text=True)
    assert set(staged.stdout.split()) <= {".gitignore"}

"""`python -m benchmarks.many_workers`: how many workers a PostgreSQL server can serve, and what limits it.

Simulated workers, threads of a few processes, do what a worker does in the database: claim a trial, report 11
evaluations over the time of a trial, end it. The server's processor time is counted apart from theirs.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Annotated, Any

from sqlalchemy import Connection, text

from benchmarks.list_options import names_of, numbers_of
from benchmarks.scale.studies import KINDS, plan_study, write_study
from benchmarks.storage import ROOT
from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.queries import study_uids
from search.storage.queue import TrialQueue

# What each kind of server has: lines of postgresql.conf, and whether its data is on a disk.
SERVERS = {
    "memory": ("fsync = off\n", False),
    "pooler": ("fsync = off\n", False),
    "disk": ("fsync = on\n", True),
    "asynchronous": ("fsync = on\nsynchronous_commit = off\n", True),
    "unlogged": ("fsync = on\n", True),
}
POOLED = 16  # connections of the pooler to the server
# No other table refers to these, which have most of the writes; a crash of the server empties them.
UNLOGGED = ("trial_intermediate_values", "trial_values", "trial_user_attributes", "search_runs")


@dataclass(frozen=True, kw_only=True)
class ManyWorkersOptions(Options):
    """The options of this program."""

    workers: Annotated[str, Option("Numbers of workers.", "N,N")] = "1,8,32,64,128,256"
    servers: Annotated[
        str,
        Option(
            "memory: no disk at all; pooler: the same behind pgbouncer; disk: each commit synced; asynchronous: "
            "synchronous_commit off; unlogged: curves, values and the queue in unlogged tables.",
            "NAME,NAME",
        ),
    ] = ",".join(SERVERS)
    trial_ms: Annotated[float, Option("How long a trial trains, in milliseconds.", "MS", minimum=0)] = 200.0
    evaluations: Annotated[int, Option("Evaluations of a trial.", "N", minimum=2)] = 11
    seconds: Annotated[float, Option("How long each number of workers is measured.", "S", minimum=0.1)] = 10.0
    processes: Annotated[int, Option("Processes whose threads are the workers.", "N", minimum=1)] = 4


@dataclass(frozen=True)
class Pace:
    """What some workers did together.

    Attributes:
        workers: How many.
        trials: How many trials they ended.
        seconds: In which time.
        client_cpu_s, server_cpu_s: Processor time of the workers, and of the server with its pooler.
        writes: Transactions of the server that wrote.
        log_bytes: What the server wrote to its log of writes.
    """

    workers: int
    trials: int
    seconds: float
    client_cpu_s: float
    server_cpu_s: float
    writes: int
    log_bytes: int

    @property
    def trials_a_second(self) -> float:
        return self.trials / self.seconds


def measure(options: ManyWorkersOptions) -> None:
    """Measure how many trials a second some numbers of workers end on a PostgreSQL server."""
    with user_errors():
        counts, servers = numbers_of(options.workers), names_of(options.servers, SERVERS)
        sys.path.insert(0, str(ROOT / "tests" / "support"))  # postgres, pgbouncer
        print(f"{os.cpu_count()} cores; {options.evaluations} evaluations in {options.trial_ms:.0f} ms a trial")
        for name in servers:
            paces = []
            with started_server(name) as (server, pooler):
                for count in counts:
                    url = server.create_database(f"workers{count}")
                    paces.append(pace(url, count, options, name == "unlogged", pooler))
                    load = os.getloadavg()[0]
                    print(
                        f"{name}, {count} workers: {paces[-1].trials_a_second:.1f} a second, load {load:.1f}",
                        flush=True,
                    )
            print(f"\n{name}\n\n{as_table(paces)}\n", flush=True)


@contextmanager
def started_server(name: str) -> Iterator[tuple[Any, Any]]:
    """A new server of a kind of `SERVERS`, and its pooler or None."""
    from pgbouncer import Pgbouncer
    from postgres import PostgresServer

    settings, on_disk = SERVERS[name]
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="lm-search-workers-", dir="/var/tmp")) if on_disk else None
        server = stack.enter_context(PostgresServer(folder, settings + "max_connections = 600\n"))
        yield server, stack.enter_context(Pgbouncer(server, POOLED)) if name == "pooler" else None


def pace(url: str, workers: int, options: ManyWorkersOptions, unlogged: bool = False, pooler: Any = None) -> Pace:
    """Plan a study in an empty database and let workers train it for a while.

    Args:
        url: The database; workers reach it through `pooler` if there is one.
        unlogged: Whether its tables of most writes are unlogged.
    """
    most = int(workers * options.seconds / max(0.005, options.trial_ms / 1000)) + 3 * workers + 100
    with tempfile.TemporaryDirectory() as name, open_database(url, create=True).closing() as database:
        study = plan_study(database, write_study(KINDS["seeds"], min(most, 20_000), Path(name)), url).name
        if unlogged:
            with database.engine.begin() as connection:
                for table in UNLOGGED:
                    connection.execute(text(f"ALTER TABLE {table} SET UNLOGGED"))
        context = multiprocessing.get_context("spawn")
        processes = min(options.processes, workers)
        barrier, ended = context.Barrier(processes + 1), context.Event()
        reached = url if pooler is None else pooler.url(url)
        shares = [len(range(at, workers, processes)) for at in range(processes)]
        clients = [
            context.Process(target=_work, args=(reached, study, each, options, barrier, ended)) for each in shares
        ]
        for each in clients:
            each.start()
        barrier.wait(300)
        pids = [each.pid for each in clients if each.pid is not None]
        before, began = _counts(database, pids, pooler), time.monotonic()
        barrier.wait(300)
        time.sleep(options.seconds)
        after, seconds = _counts(database, pids, pooler), time.monotonic() - began
        # Until now no connection may be closed: a process that is gone shows no time.
        ended.set()
        for each in clients:
            each.join()
    return Pace(
        workers,
        after.trials - before.trials,
        seconds,
        _used(before.clients, after.clients),
        _used(before.server, after.server),
        after.writes - before.writes,
        after.log_bytes - before.log_bytes,
    )


def _work(url: str, study: str, workers: int, options: ManyWorkersOptions, barrier: Barrier, ended: Event) -> None:
    """The workers of one process."""
    databases = [open_database(url, create=False) for _ in range(workers)]
    uids = study_uids(databases[0], [study])
    ready = threading.Barrier(workers + 1)

    def work(at: int) -> None:
        queue, owner = TrialQueue(databases[at], uids=uids), f"{os.getpid()}-{at}"
        _train(queue, study, owner, options)  # it connects and prepares its statements
        ready.wait()
        ready.wait()
        while not ended.is_set() and _train(queue, study, owner, options):
            pass
        ended.wait()

    threads = [threading.Thread(target=work, args=(at,), daemon=True) for at in range(workers)]
    for each in threads:
        each.start()
    ready.wait()
    barrier.wait()  # all are connected
    barrier.wait()  # the measurement begins
    ready.wait()
    for each in threads:
        each.join()
    for database in databases:
        database.engine.dispose()


def _train(queue: TrialQueue, study: str, owner: str, options: ManyWorkersOptions) -> bool:
    """Train a trial; whether there was one."""
    leases = queue.claim([study], owner)
    if not leases:
        return False
    last = options.evaluations - 1
    for step in range(options.evaluations):
        if step > 0:
            time.sleep(options.trial_ms / 1000 / last)
        queue.report([Report(leases[0], 500 * step, 3.0 - 0.1 * step, 3.0 - 0.1 * step)])
    queue.finish(leases[0], "complete", 3.0 - 0.1 * last, {"n_params": 1234, "train_seconds": 1.5})
    return True


@dataclass(frozen=True)
class _Counts:
    """Trials that have ended, transactions that wrote, bytes of the log; processor seconds by process."""

    trials: int
    writes: int
    log_bytes: int
    clients: Mapping[int, float]
    server: Mapping[int, float]


def _counts(database: Database, clients: Sequence[int], pooler: Any) -> _Counts:
    # The transactions' own numbers are exact at once; `pg_stat_database` is some seconds late.
    query = text(
        "SELECT pg_backend_pid() AS pid, pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS writes,"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS log_bytes,"
        " (SELECT count(*) FROM search_runs WHERE state = 'done') AS trials"
    )

    def count(connection: Connection) -> _Counts:
        row = connection.execute(query).one()
        stats = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
        server = {pid: cpu_s for pid, (cpu_s, parent) in stats.items() if parent == stats[row.pid][1]}
        if pooler is not None:
            pid = int((pooler.folder / "pgbouncer.pid").read_text())
            server[pid] = stats[pid][0]
        return _Counts(row.trials, row.writes, row.log_bytes, {pid: stats[pid][0] for pid in clients}, server)

    return database.read(count)  # while it is connected: the server's processes are those beside its own


def _used(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """The processor time between two counts, of the processes that were there at the second one."""
    return sum(cpu_s - before.get(pid, 0.0) for pid, cpu_s in after.items())


def _stat(pid: int) -> tuple[float, int]:
    """The processor seconds of a process, and the id of its parent; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[1])


def as_table(paces: Sequence[Pace]) -> str:
    """The measurements as markdown; linear is the pace of the fewest workers times their number."""
    alone = paces[0].trials_a_second / paces[0].workers
    lines = [
        "| workers | trials a second | of linear | CPU ms a trial: workers | server | cores | writes a second |"
        " log, kB a trial |",
        f"|{'---:|' * 8}",
    ]
    for each in paces:
        trials = max(1, each.trials)
        cpu = f"{1000 * each.client_cpu_s / trials:.1f} | {1000 * each.server_cpu_s / trials:.1f}"
        cores = (each.client_cpu_s + each.server_cpu_s) / each.seconds
        share = each.trials_a_second / each.workers / alone
        lines.append(
            f"| {each.workers} | {each.trials_a_second:.1f} | {share:.2f} | {cpu} | {cores:.2f} |"
            f" {each.writes / each.seconds:,.0f} | {each.log_bytes / 1000 / trials:.1f} |"
        )
    return "\n".join(lines)


EXAMPLES = (
    ("all servers", ""),
    ("two evaluations a trial instead of eleven, without a disk", "--servers memory --evaluations 2"),
)
app = new_program(measure, ManyWorkersOptions, EXAMPLES)

if __name__ == "__main__":
    app()

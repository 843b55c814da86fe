"""The batch script of SLURM workers: what a site's options are, and how a worker comes back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from search.launchers.child_process import child_command
from search.launchers.settings import LauncherSettings, read_launcher_settings

# Crashes of a task, besides preemptions and time limits, after which it is not started again.
MAX_RESTARTS = 20
SCRIPT = """\
#!/bin/bash
{directives}
{prologue}
worker='' told='' again=''
stop() {{
  trap '' TERM USR1                   # scontrol requeue sends one more TERM
  told=1
  [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null
}}
trap 'echo "this task asks to be run again (USR1)"; again=1; stop' USR1  # the time limit comes, or a preemption
trap stop TERM                        # SLURM requeues the job itself, or scancel ends it
device={device}
[ -n "$device" ] || {{ [ -n "${{CUDA_VISIBLE_DEVICES:-}}" ] && device=cuda:0 || device=cpu; }}
name="$(uname -n)/slurm-${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}-${{SLURM_RESTART_COUNT:-0}}"
{command} --device "$device" --owner "$name" &
worker=$!
wait "$worker"; code=$?
[ -z "$told" ] || {{ wait "$worker"; code=$?; }}
case $code in
  0|2) ;;                             # no trial is left; or its options are wrong
  75|143) [ -z "$again" ] || scontrol requeue "$SLURM_JOB_ID" ;;
  *) [ -n "$told" ] || [ "${{SLURM_RESTART_COUNT:-0}}" -ge {restarts} ] || scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$code"
"""


# Options of sbatch that make a worker's task what it is.
OWN_OPTIONS = (
    *("--array", "-a", "--job-name", "-J", "--requeue", "--no-requeue", "--open-mode", "--signal", "--output", "-o"),
    *("--wrap", "--parsable", "--test-only"),
)


class SlurmSettings(LauncherSettings):
    """What `[launcher]` of a study file says to SLURM; names are those of sbatch's options."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | int | None = None
    gres: str | None = None
    gpus: str | int | None = None
    constraint: str | None = None
    cpus_per_task: int | None = Field(default=None, ge=1)
    mem: str | int | None = None
    exclude: str | None = None
    # How many tasks of the array run at the same time.
    array_limit: int | None = Field(default=None, ge=1)
    # SLURM tells a task so many seconds before its time limit.
    signal_s: int = Field(default=120, ge=1)
    # Words before the worker's command, such as "apptainer exec --nv image.sif"; python is then that of the container.
    container: str = ""
    # Lines of shell before the worker, such as "module load cuda".
    prologue: str | list[str] = ""
    # Further options of sbatch, such as ["--mail-type=FAIL"].
    sbatch: list[str] = Field(default=[])

    @field_validator("container")
    @classmethod
    def _check_words(cls, words: str) -> str:
        shlex.split(words)  # ValueError: No closing quotation
        return words

    @field_validator("sbatch")
    @classmethod
    def _check_options(cls, options: list[str]) -> list[str]:
        for option in options:
            name = option.partition("=")[0]
            if not re.fullmatch(r"-\w|--[\w-]+", name) or "\n" in option:
                raise ValueError(f"{option!r} is no option of sbatch: write each as --name=value")
            if name in OWN_OPTIONS:
                raise ValueError(f"{name} is set by the launcher; remove it from launcher.sbatch")
        return options


OPTIONS = ("partition", "account", "qos", "time", "gres", "gpus", "constraint", "cpus_per_task", "mem", "exclude")


def read_slurm_settings(values: Mapping[str, Any]) -> SlurmSettings:
    """Validate `[launcher]` for SLURM.

    Raises:
        UsageError: A name or a value is wrong.
    """
    hint = "; any other option of sbatch goes into launcher.sbatch"
    return read_launcher_settings(SlurmSettings, "SLURM", values, hint)


def batch_script(
    settings: SlurmSettings, number: int, arguments: Sequence[str], device: str, name: str, logs: Path
) -> str:
    """Write the batch script of an array of workers.

    Args:
        settings: Of the study file.
        number: How many workers.
        arguments: Command line of `search.worker`, without `--device` and `--owner`.
        device: What torch calls the device; "" for the one that SLURM gives, or the CPU.
        name: The name of the job.
        logs: Folder for the logs of the tasks.
    """
    prologue = settings.prologue if isinstance(settings.prologue, str) else "\n".join(settings.prologue)
    worker = child_command("search.worker")
    if settings.container:
        worker = [*shlex.split(settings.container), "python", *worker[1:]]
    return SCRIPT.format(
        directives="\n".join(f"#SBATCH {each}" for each in _directives(settings, number, name, logs)),
        prologue=prologue,
        device=shlex.quote(device),
        command=shlex.join([*worker, *arguments]),
        restarts=MAX_RESTARTS,
    )


def _directives(settings: SlurmSettings, number: int, name: str, logs: Path) -> list[str]:
    given = {each.replace("_", "-"): getattr(settings, each) for each in OPTIONS}
    return [
        f"--job-name={name}",
        f"--array={array_range(number, settings.array_limit)}",
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{settings.signal_s}",
        f"--output={shlex.quote(f'{logs}/slurm-%A_%a.log')}",
        *(f"--{option}={value}" for option, value in given.items() if value is not None),
        *settings.sbatch,
    ]


def array_range(number: int, limit: int | None) -> str:
    """The value of `--array` for so many tasks.

    Args:
        limit: How many of them run at the same time; None for all.
    """
    return f"0-{number - 1}" + ("" if limit is None else f"%{limit}")

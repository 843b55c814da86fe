"""What `[launcher]` may say to SLURM; `tests/engines` has the rest."""

from __future__ import annotations

import pytest

from search.errors import UsageError
from search.launchers.slurm_script import read_slurm_settings


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--array=1-5", "--array is set by the launcher; remove it from launcher.sbatch"),
        ("-a", "-a is set by the launcher"),
        ("--wrap=ls", "--wrap is set by the launcher"),
        ("--mail-type FAIL; rm x", "'--mail-type FAIL; rm x' is no option of sbatch: write each as --name=value"),
        ("--mail-type=FAIL\n#SBATCH --array=0", "is no option of sbatch"),
        ("ls", "'ls' is no option of sbatch"),
    ],
)
def test_options_that_would_break_the_task(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_slurm_settings({"sbatch": [option]})


def test_other_options_pass() -> None:
    options = ["--mail-type=FAIL", "--comment=two words", "-C", "--exclusive"]
    assert read_slurm_settings({"sbatch": options}).sbatch == options

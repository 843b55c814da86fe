"""`python -m benchmarks.reference`: compares our losses with an independent float32 run of the same cells.

The reference is a plain training loop on a CPU, seed 1337, with one full pass over the validation text at the end. Its
random numbers were drawn in another order than ours, so the losses cannot be equal: if two seeds of a cell agree within
the tolerance, ours must too. Cells whose seeds differ by more are chaotic, and the table marks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option
from search.shared_options import DEFAULT_STORAGE_WAIT_S, StorageOptions

# (pe_type, n_embd, block_size) -> validation loss in nats per character
REFERENCE = {
    ("rope", 64, 64): 2.3033,
    ("sinpe", 64, 64): 2.3269,
    ("randn", 64, 64): 2.4812,
    ("rope", 64, 32): 2.3387,
    ("sinpe", 64, 32): 2.3507,
    ("randn", 64, 32): 2.4677,
    ("rope", 64, 16): 2.4784,
    ("sinpe", 64, 16): 2.5190,
    ("randn", 64, 16): 2.5107,
    ("rope", 64, 8): 2.5204,
    ("rope", 128, 64): 2.5011,
}
TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions(StorageOptions):
    """The options of this program."""

    studies: Annotated[
        tuple[str, ...],
        Option("A study with cells of the reference; may be repeated.", "NAME", flag="--study", convert=tuple),
    ]


def compare(options: ReferenceOptions) -> None:
    """Compare every complete trial of the reference's cells with the reference."""
    with user_errors():
        from search.storage.queries import trial_summaries
        from search.study.lookup import open_studies

        runs = []
        for name in options.studies:
            database, names = open_studies(name, options.storage, DEFAULT_STORAGE_WAIT_S, baselines=False)
            with database.closing():
                runs += trial_summaries(database, names, ("complete",))
    print("| pe_type | n_embd | block_size | reference | ours, by seed | nearest difference | verdict |")
    print("| --- | ---: | ---: | ---: | --- | ---: | --- |")
    for (pe_type, n_embd, block_size), reference in REFERENCE.items():
        wanted = {"pe_type": pe_type, "n_embd": n_embd, "block_size": block_size}
        losses = sorted(
            {
                (run.cell["seed"], run.val_loss)
                for run in runs
                if wanted.items() <= run.cell.items() and run.val_loss is not None
            }
        )
        print(f"| {pe_type} | {n_embd} | {block_size} | {reference:.4f} | {_row(losses, reference)} |")


def _row(losses: list[tuple[int, float]], reference: float) -> str:
    if not losses:
        return "no complete trial | | "
    shown = ", ".join(f"{loss:.4f}" for _, loss in losses)
    first = losses[0][1] - reference
    nearest = min((loss - reference for _, loss in losses), key=abs)
    spread = max(loss for _, loss in losses) - min(loss for _, loss in losses)
    if abs(first) <= TOLERANCE:
        verdict = f"within {TOLERANCE}"
    elif spread > TOLERANCE:
        verdict = f"chaotic: our own seeds span {spread:.4f}"
    else:
        verdict = f"outside {TOLERANCE}" + ("" if len(losses) > 1 else "; run more seeds to see whether it is chaotic")
    return f"{shown} | {nearest:+.4f} | {verdict}"


app = new_program(compare, ReferenceOptions, [("all trials of the built-in study", "--study bigram")])

if __name__ == "__main__":
    app()

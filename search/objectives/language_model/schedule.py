"""How the learning rate moves over a run. No torch here."""

from __future__ import annotations

import math

from search.objectives.language_model.settings import LanguageModelSettings


def rate_factor(step: int, settings: LanguageModelSettings) -> float:
    """The learning rate of a step as a share of the highest.

    Args:
        step: Steps taken before, 0 for the first.
        settings: `schedule`, `warmup_iters`, `max_iters`, `min_lr_ratio`, `decay_share`.

    Returns:
        In the warm-up (step + 1) / (warmup_iters + 1). Then 1 for "constant". "cosine" (SGDR, arXiv:1608.03983) and
        "linear" fall to `min_lr_ratio` at the end of the run; "wsd" (MiniCPM, arXiv:2404.06395) stays at 1 and falls
        linearly in the last `decay_share` of the steps.
    """
    if step < settings.warmup_iters:
        return (step + 1) / (settings.warmup_iters + 1)
    begin = settings.warmup_iters
    if settings.schedule == "wsd":
        begin = max(begin, round(settings.max_iters * (1 - settings.decay_share)))
    if settings.schedule == "constant" or step < begin:
        return 1.0
    done = (step - begin) / (settings.max_iters - begin)
    left = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1 - done
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * left


def is_constant(settings: LanguageModelSettings) -> bool:
    """Whether every step of a run has the same learning rate."""
    return settings.schedule == "constant" and settings.warmup_iters == 0

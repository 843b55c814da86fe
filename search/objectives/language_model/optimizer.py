"""The optimizer of every run: AdamW, without the import of torch's compiler."""

from __future__ import annotations

import inspect

import torch


class EagerAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` for steps that are never compiled; every result is equal to the last bit.

    torch wraps these methods for `torch.compile`, and the wrappers import the compiler at their first call: more than a
    second of the time in which a worker starts. Where torch has no such wrappers, the methods are its own.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))

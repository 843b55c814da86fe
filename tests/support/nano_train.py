"""A training script of the kind of nanoGPT's train.py, for tests: it knows nothing of lm-search.

Its settings are globals that `--key=value` overrides; it prints `step N: train loss a, val loss b`, and saves ckpt.pt
in its folder, from which `--init_from=resume` goes on.
"""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path

out_dir = "out"
init_from = "scratch"  # or "resume"
learning_rate = 0.1
max_iters = 40
eval_interval = 10
seed = 1337
gate = ""  # a folder: the script waits after the step gate_step until it holds the file "open"
gate_step = 20
stubborn = False  # ignore SIGTERM, and have a child in a session of its own that ignores it too

for argument in sys.argv[1:]:
    key, _, value = argument.removeprefix("--").partition("=")
    if key not in globals():
        raise ValueError(f"Unknown config key: {key}")
    try:
        globals()[key] = literal_eval(value)
    except (SyntaxError, ValueError):
        globals()[key] = value

checkpoint = Path(out_dir, "ckpt.pt")
if init_from == "resume":
    print(f"Resuming training from {out_dir}")
    step, weight, state = pickle.loads(checkpoint.read_bytes())
    draw = random.Random()
    draw.setstate(state)
else:
    print("Initializing a new model from scratch")
    step, weight, draw = 0, 4.0, random.Random(seed)

while True:
    if step % eval_interval == 0:
        val_loss = weight**2 + 10 * learning_rate
        print(f"step {step}: train loss {weight**2:.4f}, val loss {val_loss:.4f}")
        if step > 0:
            Path(f"{checkpoint}.new").write_bytes(pickle.dumps((step, weight, draw.getstate())))
            Path(f"{checkpoint}.new").replace(checkpoint)
    if gate and step == gate_step and not Path(gate, "open").exists():
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
            Path(gate, f"child-{child.pid}").touch()
        Path(gate, f"reached-{os.getpid()}").touch()
        while not Path(gate, "open").exists():
            time.sleep(0.02)
    if step >= max_iters:
        break
    weight -= learning_rate * (2 * weight + draw.gauss(0, 0.1))
    step += 1
    print(f"iter {step}: loss {weight**2:.4f}, time 1.00ms")

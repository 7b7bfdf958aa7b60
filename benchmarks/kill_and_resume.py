"""Kills a short training run at random moments, over and over, and counts what each kill cost.

    python -m benchmarks.kill_and_resume --workdir=DIR [--kills=20]

Prints JSON: for every kill the last step that was logged before it, the step that the next start
resumed from, and the steps lost; it fails if more was lost than since the last save but one (the
last may have been under way).
"""

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from uctgan_jax import command_line

FLAGS = flags.FlagValues()
_WORKDIR = command_line.define_path(
    "workdir", None, "An empty or missing folder.", FLAGS, required=True
)
_KILLS = flags.DEFINE_integer("kills", 20, "How often it is killed.", flag_values=FLAGS)
_SECONDS = flags.DEFINE_float("seconds", 12, "Longest life after a first step.", flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.", flag_values=FLAGS)

CHECKPOINT_EVERY = 10
CONFIG = (
    "--config=configs/tiny.py",
    "--config.num_train_steps=1000000",
    "--config.log_every_steps=1",
    f"--config.checkpoint_every_steps={CHECKPOINT_EVERY}",
    "--config.sample_every_steps=1000000",
    "--config.data.avatars_examples=(64,40,8)",
    "--config.batch_size=2",
)


def start(workdir: Path) -> tuple[subprocess.Popen, int]:
    """Starts training; waits until it says from where, and later steps are off the log."""
    process = subprocess.Popen(
        [sys.executable, "train.py", f"--workdir={workdir}", *CONFIG],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if match := re.search(r"from step (\d+)", line):
            resumed = int(match[1])
            while last_logged_step(workdir) > resumed:
                wait_a_little(process)
            return process, resumed
    raise SystemExit(f"training ended by itself with exit status {process.wait()}")


def wait_a_little(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        raise SystemExit(f"training ended by itself with exit status {process.poll()}")
    time.sleep(0.1)


def last_logged_step(workdir: Path) -> int:
    log = workdir / "metrics.jsonl"
    steps = re.findall(r'^\{"step": (\d+)', log.read_text(), re.MULTILINE) if log.exists() else []
    return int(steps[-1]) if steps else 0


def main() -> None:
    moments = random.Random(_SEED.value)

    process, resumed = start(_WORKDIR.value)
    kills = []
    for number in range(_KILLS.value):
        while last_logged_step(_WORKDIR.value) == resumed:  # compiling
            wait_a_little(process)
        time.sleep(moments.uniform(0, _SECONDS.value))
        process.kill()
        process.wait()
        reached = last_logged_step(_WORKDIR.value)
        process, resumed = start(_WORKDIR.value)
        kills.append({"reached": reached, "resumed": resumed, "lost": reached - resumed})
        print(f"kill {number + 1}: {kills[-1]}", file=sys.stderr, flush=True)
    process.kill()
    process.wait()

    most = max(kill["lost"] for kill in kills)
    print(json.dumps({"checkpoint_every": CHECKPOINT_EVERY, "most_lost": most, "kills": kills}))
    if most >= 2 * CHECKPOINT_EVERY:
        raise SystemExit(f"{most} steps were lost, with a checkpoint every {CHECKPOINT_EVERY}")


if __name__ == "__main__":
    command_line.run(main, FLAGS)

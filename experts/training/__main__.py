"""Trains the tokenizer, the base model, the experts, the monolith and the router from a seed, and examines them.

It may be killed at any moment: started again, it goes on and ends in the same models.
"""

import argparse
import sys
import time
from pathlib import Path

from experts.composition import TRAINED
from experts.training.cards import examined
from experts.training.run import MadeOtherwise, Told, build


def main() -> None:
    """Reads the arguments and builds."""
    parser = argparse.ArgumentParser(prog="train-experts", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="everything follows from it (default: 0)")
    parser.add_argument("--out", type=Path, default=TRAINED, help="where models go (default: experts/trained)")
    parser.add_argument("--states", type=Path, help="where trainings keep their states (default: beside the models)")
    given = parser.parse_args()
    try:
        build(given.out, given.states or given.out / ".states", given.seed, _teller())
    except MadeOtherwise as error:
        parser.error(str(error))
    examined(given.out, given.seed, lambda line: print(f"exam: {line}", file=sys.stderr))


def _teller() -> Told:
    """Says every few seconds how far training is, on standard error."""
    begun, last = time.monotonic(), 0.0

    def told(name: str, at: int, steps: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 5 or at == steps:
            last = now
            print(f"{now - begun:7.0f} s  {name:10} step {at:5} of {steps}  loss {loss:.3f}", file=sys.stderr)

    return told


if __name__ == "__main__":
    main()

"""Options that several sub-commands take, checked while they are read."""

import argparse


def length(text: str) -> int:
    """A length of an axis from the command line: 1 or more."""
    return _at_least(1, text)


def seed(text: str) -> int:
    """A seed from the command line: 0 or more."""
    return _at_least(0, text)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """The options of every demo: the machine, who launches, and how rows are printed."""
    parser.add_argument("--machine", default="sn40l", help="preset of the machine (default sn40l)")
    parser.add_argument(
        "--orchestration",
        default="hardware",
        help="who launches kernels: hardware (default), software, or looped (hardware, a loop of one kernel only once)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the rows as JSON, one object per line, and nothing else"
    )


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} given, a whole number of {least} or more allowed")
    return number

"""`rdujax`: one door to what the scripts run, for those who installed the package.

rdujax serve ...     a Samba-CoE over HTTP        (extras "experts" and "serve")
rdujax demo ...      the main job and its kin
"""

import sys
from collections.abc import Sequence

from rdujax.base.errors import RduError
from rdujax.cli import demo


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the first argument names; 2 for what there is not, or what is refused."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name == "demo":
        return demo.main(rest)
    if name == "serve":
        return _served(rest)
    print(__doc__, file=sys.stderr)
    return 0 if name in ("-h", "--help") else 2


def _served(argv: list[str]) -> int:
    # Here, for only this needs the packages of the extras "experts" and "serve".
    from experts.checkpoints import CheckpointError
    from experts.tokenizer import TokenizerError
    from rdujax.cli import serve

    try:
        return serve.main(argv)
    except (RduError, CheckpointError, TokenizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before it served
        return 130


if __name__ == "__main__":
    sys.exit(main())

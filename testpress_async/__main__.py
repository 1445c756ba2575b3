"""``python -m testpress_async`` and the `testpress` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; it needs the extra `cli`."""
    try:
        from testpress_async.cli.app import run
        from testpress_async.cli.output import show_warnings
    except ModuleNotFoundError as error:
        if error.name not in ("cyclopts", "rich"):
            raise
        sys.exit("testpress: the command line needs two more packages: pip install 'testpress-async[cli]'")
    show_warnings()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

"""`python -m zkcert`, and the command `zkcert`."""

import sys


def main() -> int:
    """As `zkcert.cli.main`, whose import may be interrupted, too."""
    try:
        from zkcert.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

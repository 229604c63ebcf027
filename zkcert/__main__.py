"""`python -m zkcert`, and the command `zkcert`."""

import sys

from zkcert.files import signals


def main() -> int:
    """As `zkcert.cli.main`, whose import may be interrupted, too; here signals that end the process become orderly."""
    try:
        signals.install()
        from zkcert.cli import main as run

        return run()
    except KeyboardInterrupt:
        code, word = signals.ending()
        print(f"{word}; nothing was written", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())

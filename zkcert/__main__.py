"""`python -m zkcert`."""

import sys

from zkcert.cli import main

if __name__ == "__main__":
    sys.exit(main())

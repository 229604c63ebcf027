"""The one exception: a proof, or a file beside it, is refused."""


class Reject(Exception):
    """The name of the check that failed, and what was found."""

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{check}: {detail}" if detail else check)
        self.check = check


def require(condition: object, check: str, detail: str = "") -> None:
    """Reject unless `condition` holds."""
    if not condition:
        raise Reject(check, detail)

"""Types for argparse flags that argparse lacks."""

import argparse


def bool_flag(text: str) -> bool:
    """True for true, 1, yes, on; False for false, 0, no, off, in any case.

    argparse's own `type=bool`, as in the released scripts, reads every text but the empty one as true: `--curve False` too.
    Use with nargs="?" and const=True to let the bare flag mean true. Raises argparse.ArgumentTypeError for any other text.
    """
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")

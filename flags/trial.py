"""Flags of app.py."""

import argparse

from tool.run.flags import at_least
from tool.run.machine_flags import add_device_flag

PORT = 7860


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="folder that masks_from_tags.py --out made"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; another than the default lets other machines see the "
        "photographs and write corrections (default %(default)s)",
    )
    parser.add_argument(
        "--port", type=at_least(0, 65535), default=PORT, help="0: any (default %(default)s)"
    )
    add_device_flag(parser)
    return parser.parse_args(argv)

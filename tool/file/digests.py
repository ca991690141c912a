"""Digests: by which one file says which other one it was made from, or under which settings."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def file_digest(path: str | Path) -> str:
    """The first 16 hexadecimal digits of the file's SHA-256, by which one file says which other one
    it was made from.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest(settings: Mapping[str, Any], digits: int = 8) -> str:
    """Hexadecimal digits that tell settings (what JSON can hold) apart, whatever their order.

    digits: 8 tell what takes each other's place apart; of 100,000 things side by side two would be
    alike more often than not, so that those take 32
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:digits]


def weights_meta(path: str | Path, key: str | None = None) -> dict[str, str]:
    """What a file says of the weights that made it: the digest of theirs, and the entry of it,
    --weights_key, if one is named; without, as all that were made before entries were kept.
    """
    named = {} if key is None else {"weights_key": key}
    return {"weights": file_digest(path)} | named

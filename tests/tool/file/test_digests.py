"""Digests, and which files are copies of each other."""

import numpy as np

from tool.file.digests import HEAD, file_digest, first_copies


def test_copies_are_those_of_one_content(tmp_path):
    rng = np.random.default_rng(0)
    head = rng.bytes(HEAD)
    contents = [b"", b"a", b"b", head, head + b"x", head + b"y", rng.bytes(HEAD + 1)]
    paths = []
    for place, which in enumerate(rng.integers(0, len(contents), 40)):
        paths.append(tmp_path / f"{place}")
        if place % 5 == 4:  # a link to a file before it
            paths[-1].symlink_to(paths[place - 3])
        else:
            paths[-1].write_bytes(contents[which])
    digests = [file_digest(path) for path in paths]
    assert first_copies(paths) == [digests.index(one) for one in digests]
    assert first_copies([]) == []

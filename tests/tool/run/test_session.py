"""What a session says of the files that it learns from."""

from tests.ranks import run_ranks
from tool.file.digests import file_digest
from tool.run.session import file_contents, weights_contents


def test_every_rank_has_the_contents_of_all_files(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abcde"]
    for path in paths:
        path.write_text(path.name)
    expected = {path.name: file_digest(path) for path in paths}
    assert file_contents(paths, file_digest) == expected
    assert run_ranks(lambda _: file_contents(paths, file_digest)) == [expected, expected]


def test_weights_to_start_from_are_told_by_their_content(tmp_path):
    path = tmp_path / "a.pth"
    path.write_text("one")
    assert weights_contents(str(path)) == {str(path): file_digest(path)}
    assert weights_contents("imagenet") == weights_contents("none") == {}

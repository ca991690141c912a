"""Films: pictures, times and sizes come back, on their side too; what is no film is one line."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from tool.errors import InputError
from tool.file.films import Film, film_writer, is_film, open_film

RATE, CLOCK = Fraction(30000, 1001), Fraction(1, 30000)


def write_film(path, size=(48, 64), pictures=12, times=None):
    """A film of a red bar that moves right over grey, 4 pixels a picture; its pictures."""
    made = []
    for index in range(pictures):
        picture = np.full((*size, 3), 60, np.uint8)
        picture[: size[0] // 2, 4 * index : 4 * index + 8] = (220, 30, 30)
        made.append(picture)
    film = Film(size, RATE, pictures, CLOCK, iter(()))
    with film_writer(path, film) as write:
        for index, picture in enumerate(made):
            write(1001 * index if times is None else times[index], picture)
    return made


def _turned(path, target):
    """The film at path with the matrix of a camera held upright, a quarter to the right."""
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 44
    assert struct.unpack(">9i", content[place : place + 36])[0] == 65536
    matrix = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", *matrix)
    target.write_bytes(content)


def test_pictures_times_and_size_come_back(tmp_path):
    times = [0, 1001, 2002, 5000, 6001, 9000]  # as telephones film: not all pictures as long
    made = write_film(tmp_path / "a.mp4", pictures=6, times=times)
    with open_film(tmp_path / "a.mp4") as film:
        assert (film.size, film.count) == ((48, 64), 6)
        found = list(film.pictures)
        seconds = [float(time * film.clock) for time, _ in found]
    np.testing.assert_allclose(seconds, [time / 30000 for time in times], atol=1e-3)
    for (_, picture), expected in zip(found, made, strict=True):
        assert np.abs(picture.astype(int) - expected).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_rate_is_kept(tmp_path):
    write_film(tmp_path / "a.mp4", pictures=30)
    with open_film(tmp_path / "a.mp4") as film:
        assert float(film.rate) == pytest.approx(30000 / 1001, rel=1e-3)


def test_odd_sides_lose_a_line(tmp_path):
    write_film(tmp_path / "a.mp4", size=(49, 63))
    with open_film(tmp_path / "a.mp4") as film:
        assert film.size == (48, 62)


def test_a_film_on_its_side_is_turned(tmp_path):
    write_film(tmp_path / "a.mp4")
    _turned(tmp_path / "a.mp4", tmp_path / "b.mp4")
    with open_film(tmp_path / "a.mp4") as plain, open_film(tmp_path / "b.mp4") as turned:
        assert turned.size == (64, 48)
        np.testing.assert_array_equal(
            next(turned.pictures)[1], np.rot90(next(plain.pictures)[1], -1)
        )


@pytest.mark.parametrize(
    "content", [b"", b"no film", b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n"]
)
def test_what_is_no_film_is_one_line(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    message = r"^cannot read film .*a\.mp4: .*; give another file$"
    with pytest.raises(InputError, match=message), open_film(tmp_path / "a.mp4"):
        pass


def test_a_film_that_breaks_off_is_named_and_leaves_nothing(tmp_path):
    write_film(tmp_path / "a.mp4", pictures=40)

    def begin_and_fail(film):
        with film_writer(tmp_path / "b.mp4", film) as write:
            write(*next(film.pictures))
            raise OSError("disk")

    with open_film(tmp_path / "a.mp4") as film, pytest.raises(OSError, match="disk"):
        begin_and_fail(film)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) // 2])

    def read():
        with open_film(tmp_path / "a.mp4") as film:
            list(film.pictures)

    with pytest.raises(InputError, match=r"cannot read film .*a\.mp4"):
        read()


def test_films_are_known_by_their_suffix():
    assert is_film("A b.MOV")
    assert not is_film("a.jpg")

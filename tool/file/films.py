"""Films read and written picture by picture, in constant memory, by PyAV, which brings its own
FFmpeg.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.atomic import atomic_write

FILM_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".gif")
WRITTEN_SUFFIX = ".mp4"
CODEC, QUALITY = "h264", "20"  # constant rate factor: what is drawn stays sharp
USUAL_RATE = Fraction(25)  # pictures a second, for a film that does not say
# A film that is a list of other files may name addresses: nothing but files is opened.
LOCAL = {"protocol_whitelist": "file"}


def is_film(path: str | Path) -> bool:
    """Whether the suffix is that of a film."""
    return Path(path).suffix.lower() in FILM_SUFFIXES


@dataclass(frozen=True)
class Film:
    """An open film.

    size: (H, W) as it is watched; rate: pictures a second, on average; count: how many pictures it
    says that it has, 0 where it does not say; clock: seconds of a tick, of which times are counted
    pictures: (time in ticks, (H, W, 3) uint8 RGB) of each
    """

    size: tuple[int, int]
    rate: Fraction
    count: int
    clock: Fraction
    pictures: Iterator[tuple[int, np.ndarray]]


@contextlib.contextmanager
def open_film(path: str | Path) -> Iterator[Film]:
    """The film at path, turned as its maker held it.

    Raises InputError naming the file where it is no film, on opening or while pictures are taken.
    """
    import av  # 0.2 s, for films alone

    with _naming(path):
        container = av.open(f"file:{Path(path).resolve()}", options=LOCAL)
    with contextlib.closing(container):
        if not container.streams.video:
            raise InputError(f"{path} has no pictures, only sound; give a film")
        with _naming(path):
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            pictures = _pictures(container, stream, path)
            first = next(pictures, None)
        if first is None:
            raise InputError(f"cannot read film {path}: it has no whole picture; give another file")
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        seconds = float(stream.duration * stream.time_base) if stream.duration else 0
        count = stream.frames or round(seconds * rate)
        yield Film(first[1].shape[:2], rate, count, stream.time_base, _joined(first, pictures))


def _joined(first: tuple, others: Iterator[tuple]) -> Iterator[tuple]:
    yield first
    yield from others


@contextlib.contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read film {path}: {reason}; give another file") from error


def _pictures(container, stream, path: str | Path) -> Iterator[tuple[int, np.ndarray]]:
    """(time, picture) of a stream; times grow, also where the film's do not."""
    last, shape = None, None
    step = round(1 / ((stream.average_rate or USUAL_RATE) * stream.time_base)) or 1
    with _naming(path):
        for frame in container.decode(stream):
            picture = frame.to_ndarray(format="rgb24")
            if quarters := round(frame.rotation / 90) % 4:
                picture = np.ascontiguousarray(np.rot90(picture, quarters))
            shape = shape or picture.shape
            if picture.shape != shape:
                raise ValueError(f"its pictures change their size to {picture.shape[:2]}")
            time = frame.pts
            if time is None or (last is not None and time <= last):
                time = 0 if last is None else last + step
            last = time
            yield time, picture


@contextlib.contextmanager
def film_writer(path: str | Path, film: Film) -> Iterator[Callable[[int, np.ndarray], None]]:
    """A function that adds (time, picture) to a film at path, H.264 in MP4, with the size, the
    rate and the clock of film; the file is there when the block ends without an error, whole.

    A side that is odd loses its last line of pixels, as H.264 in the form that every player shows
    has even sides.
    """
    import av

    height, width = (side - side % 2 for side in film.size)
    if not height or not width:
        raise InputError(f"{path}: a film of {film.size[1]} x {film.size[0]} pixels is too small")
    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(CODEC, rate=film.rate, options={"crf": QUALITY})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = film.clock
        start: int | None = None

        def write(time: int, picture: np.ndarray) -> None:
            nonlocal start
            start = time if start is None else start
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(picture[:height, :width]), format="rgb24"
            )
            frame.pts, frame.time_base = time - start, film.clock
            container.mux(stream.encode(frame))

        yield write
        container.mux(stream.encode(None))

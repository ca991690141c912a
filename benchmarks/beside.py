"""Two commands at once on the same cores: seconds of each command alone and of two of them at once,
with OpenMP threads that spin while they wait, as by the runtime's default, and with threads that
soon sleep, as tool/start.py sets them.

    python -m benchmarks.beside --voc12_root DIR --list animals_val

Everything runs as users run it, as a process, with a data set of --images photographs and networks
that a few steps have trained. To be run on a quiet machine.
Results: benchmarks/RESULTS.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.common import add_road_flags, photographs, section
from tool.run.flags import positive_int
from tool.start import WAIT_SETTINGS

# libgomp's default number of turns, given as a number, so that tool/start.py leaves it
WAYS = {"spin": {"GOMP_SPINCOUNT": "300000"}, "sleep": {}}
SMALL = "--backbone efficientnet_lite0 --crop_size 160"
PATIENCE = 3  # times the seconds alone, after which a pair is ended


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_road_flags(parser)
    parser.add_argument(
        "--rounds", type=positive_int, default=3, help="runs of each (default %(default)s)"
    )
    parser.add_argument(
        "--commands", nargs="+", help="the commands to measure, by name (default: all)"
    )
    return parser.parse_args(argv)


def prepare(root: Path, work: Path, ids: list[str], steps: int) -> dict[str, list[str]]:
    """The commands by name, {out} standing for a folder of the run's own; what they read is made
    first, in work.
    """
    ids_file, cams, masks = work / "ids.txt", work / "cams", work / "masks"
    ids_file.write_text("".join(f"{name}\n" for name in ids))
    data = f"--voc12_root {root} --num_workers 2"
    train = f"{data} --train_list {ids_file} --results {{out}}"
    session = f"{SMALL} --val_list none --max_iterations {steps} --log_every {steps}"
    infer = f"infer_cam.py {data} --infer_list {ids_file} --weights {work}/cpn/cpn.pth"
    batch = f"--batch_size 8 --max_epoches {max(1, 8 * steps // len(ids))}"
    commands = {
        "CPN training": f"train_cpn.py {train} {session} --preset small --session_name cpn "
        "--superpixel_cache {out}/superpixels",
        "CAM inference": f"{infer} --out_cam {{out}}",
        "dense CRF": f"make_crf.py {data} --infer_list {ids_file} --cam_dir {cams} "
        "--crf_threshold 0.5 --out_cam {out}",
        "evaluation": f"evaluation_cam.py {data} --list {ids_file} --predict_dir {cams}",
        "evaluation, threshold auto": f"evaluation_cam.py {data} --list {ids_file} --t auto "
        f"--predict_dir {cams}",
        "IRN training": f"train_irn.py {train} --backbone efficientnet_lite0 --crop_size 256 "
        f"--cam_dir {cams} {batch}",
        "DeepLab training": f"train_seg.py {train} {session} --mask_dir {masks} --batch_size 8 "
        "--arch deeplabv3plus",
    }
    every = {name: command.split() for name, command in commands.items()}
    first = [word.format(out=work) for word in every["CPN training"]]
    run([first], {})
    run([[*infer.split(), "--out_cam", str(cams)]], {})
    run(
        [
            f"make_masks.py {data} --infer_list {ids_file} --cam_dir {cams} --t 0.5 "
            f"--out_mask {masks}".split()
        ],
        {},
    )
    return every


def run(commands: list[list[str]], way: dict[str, str], limit: float | None = None) -> float:
    """The seconds of commands at once, infinite where they take more than limit. Leaves with a
    command's errors where it fails.
    """
    environment = {name: os.environ[name] for name in os.environ if name not in WAIT_SETTINGS}
    start = time.perf_counter()
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment | way,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    for process, command in zip(processes, commands, strict=True):
        try:
            rest = None if limit is None else max(0.1, limit - (time.perf_counter() - start))
            _, errors = process.communicate(timeout=rest)
        except subprocess.TimeoutExpired:
            for other in processes:
                other.terminate()
                other.communicate()
            return float("inf")
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{errors}")
    return time.perf_counter() - start


def measure(command: list[str], work: Path, rounds: int) -> dict[tuple[str, int], float]:
    """{(way, commands at once): median seconds}, all in turn."""
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for count in (1, 2):
            for way, environment in WAYS.items():
                outs = [work / f"out{number}" for number in range(count)]
                copies = [[word.format(out=out) for word in command] for out in outs]
                alone = times.get((way, 1))
                limit = None if count == 1 or not alone else PATIENCE * alone[-1]
                times.setdefault((way, count), []).append(run(copies, environment, limit))
                for out in outs:
                    shutil.rmtree(out, ignore_errors=True)
    return {key: median(seconds) for key, seconds in times.items()}


def row(name: str, seconds: dict[tuple[str, int], float]) -> list[str]:
    """The cells of a command: seconds, and the throughput of two at once against one after the
    other.
    """
    cells = [name]
    for way in WAYS:
        alone, both = seconds[way, 1], seconds[way, 2]
        shown = f"over {PATIENCE * alone:.0f}" if both == float("inf") else f"{both:.1f}"
        share = f"under {2 / PATIENCE:.0%}" if both == float("inf") else f"{2 * alone / both:.0%}"
        cells += [f"{alone:.1f}", shown, share]
    return cells


def main(args: argparse.Namespace) -> None:
    """Measure every command; print the section."""
    root, ids, what = photographs(args, args.images)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        commands = prepare(root.resolve(), work, ids, args.iterations)
        rows = []
        for name in args.commands or commands:
            rows.append(row(name, measure(commands[name], work, args.rounds)))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    header = ["command"]
    for way in WAYS:
        header += [f"{way}: alone, s", "two at once, s", "throughput"]
    words = (
        f"{what}. Throughput: of two at once, against one after the other. Load before: "
        f"{before:.1f}."
    )
    print(section("Beside other work", "python -m benchmarks.beside", header, rows, words))


if __name__ == "__main__":
    main(parse_args())

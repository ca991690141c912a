"""The road from image labels to masks, stage by stage: wall time, CPU time, how idle each core was,
memory, and what lies on the disk afterwards.

    python -m benchmarks.road --voc12_root DIR --list animals_train_aug --images 790

Every stage is a command of the road on photographs (experiments/presets.py), the classifier of
--preset small, on --images photographs of the list; trainings are cut to --iterations steps (IRN's
and AffinityNet's to the epochs nearest to that). Idle: of each core over the stage, by
/proc/stat, so other work counts as well. Results: benchmarks/RESULTS.md.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import add_road_flags, photographs, section
from experiments.presets import PRESETS, SEG_TEST_SCALES
from tool.run.flags import worker_count

PRESET = PRESETS["photos"]
SEG_SCALES = f"--scales {' '.join(map(str, SEG_TEST_SCALES))}"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_road_flags(parser)
    parser.add_argument(
        "--num_workers", type=worker_count, default=2, help="of every stage (default %(default)s)"
    )
    parser.add_argument("--keep", help="folder for what is made (default: a temporary one)")
    return parser.parse_args(argv)


def stages(
    args: argparse.Namespace, root: Path, work: Path, count: int
) -> dict[str, tuple[str, Path]]:
    """{stage: (command, the folder that it fills)}, in order; work: where all goes."""
    ids = work / "ids.txt"
    data = f"--voc12_root {root} --num_workers {args.num_workers}"
    train = f"{data} --train_list {ids} --results {work} --log_every {args.iterations}"
    listed = f"{data} --infer_list {ids}"
    steps = f"--val_list none --max_iterations {args.iterations}"
    epochs = max(1, round(8 * args.iterations / count))
    cams, walked = work / "cam", work / "irn_mask"
    expansion = f"--cam_dir {cams} --max_epoches {epochs}"
    return {
        "train_cpn.py": (f"{train} --preset small --session_name cpn {steps}", work / "cpn"),
        "infer_cam.py": (
            f"{listed} --weights {work}/cpn/cpn.pth {PRESET.scales} --out_cam {cams}",
            cams,
        ),
        "evaluation_cam.py": (f"{data} --list {ids} --predict_dir {cams}", cams),
        "make_crf.py": (
            f"{listed} --cam_dir {cams} --crf irn --crf_threshold 0.5 --out_cam {work}/cam_crf",
            work / "cam_crf",
        ),
        "train_irn.py": (f"{train} {PRESET.irn} {expansion} --session_name irn", work / "irn"),
        "infer_irn.py": (
            f"{listed} --cam_dir {cams} --weights {work}/irn/irn.pth --out_mask {walked}",
            walked,
        ),
        "train_aff.py": (f"{train} {PRESET.aff} {expansion} --session_name aff", work / "aff"),
        "infer_aff.py": (
            f"{listed} --cam_dir {cams} --weights {work}/aff/aff.pth {PRESET.aff_walk} "
            f"--out_mask {work}/aff_mask",
            work / "aff_mask",
        ),
        "train_seg.py": (
            f"{train} {PRESET.seg} --mask_dir {walked} --session_name seg {steps}",
            work / "seg",
        ),
        "infer_seg.py": (
            f"{listed} --weights {work}/seg/seg.pth {SEG_SCALES} --out_mask {work}/seg_mask",
            work / "seg_mask",
        ),
    }


def core_ticks() -> list[tuple[int, int]]:
    """(idle, all) clock ticks of each core so far; none where there is no /proc/stat."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return []
    rows = [line.split() for line in stat.read_text().splitlines() if line.startswith("cpu")]
    numbers = [[int(word) for word in row[1:9]] for row in rows if row[0] != "cpu"]
    return [(row[3] + row[4], sum(row)) for row in numbers]


def measure(script: str, words: str) -> list[str]:
    """Run a script; its cells of the table but for the disk."""
    code = (
        "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]); "
        "use = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(use.ru_utime + use.ru_stime, use.ru_maxrss, file=sys.stderr); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, sys.executable, script, *words.split()]
    before, start = core_ticks(), time.perf_counter()
    run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wall, after = time.perf_counter() - start, core_ticks()
    if run.returncode:
        raise SystemExit(f"{script} {words} failed:\n{run.stderr}")
    cpu, peak = run.stderr.splitlines()[-1].split()
    idle = [
        (new[0] - old[0]) / max(1, new[1] - old[1]) for old, new in zip(before, after, strict=True)
    ]
    shares = ", ".join(f"{share:.0%}" for share in idle) or "unknown"
    return [f"{wall:.1f}", f"{float(cpu):.1f}", shares, f"{int(peak) / 2**20:.2f}"]


def size_of(folder: Path) -> float:
    """Megabytes in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(args: argparse.Namespace) -> None:
    """Run the stages in order; print the section."""
    root, ids, what = photographs(args, args.images)
    load = os.getloadavg()[0]
    work = Path(args.keep or tempfile.mkdtemp(prefix="cpn_road_"))
    work.mkdir(parents=True, exist_ok=True)
    (work / "ids.txt").write_text("".join(f"{name}\n" for name in ids))
    rows = []
    for script, (words, folder) in stages(args, root.resolve(), work, len(ids)).items():
        cells = measure(script, words)
        rows.append([script, *cells, f"{size_of(folder):.1f}"])
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    if not args.keep:
        shutil.rmtree(work)
    header = ["stage", "wall, s", "CPU, s", "idle, each core", "largest process, GiB", "disk, MB"]
    words = (
        f"{what}, {args.iterations} steps of each training, {args.num_workers} workers. Load "
        f"before: {load:.1f}. Largest peak of any child of ours so far: "
        f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB."
    )
    print(section("The road", "python -m benchmarks.road", header, rows, words))


if __name__ == "__main__":
    main(parse_args())

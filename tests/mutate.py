"""Mutation test of the arithmetic: is there a test that notices a sign, an index, a comparison or a
constant that is wrong?

    python -m tests.mutate                         # all; lists the survivors and ends with status 1
                                                   if there are any
    python -m tests.mutate --only tool/losses.py

Each mutant changes one place of one function of the losses, the CAM arithmetic, PCM, PRCM and the
metric, and runs that file's tests until one fails. Mutants that no test can tell from the original
are in EQUIVALENT, with the reason. Each runs in a process forked from one that has the libraries
loaded and none of the project.
"""

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300  # after which a mutant counts as noticed: it made a loop endless


@dataclass(frozen=True)
class Target:
    """A file, its functions to change (None: all, and its constants), and what pytest runs for
    it.
    """

    path: str
    functions: tuple[str, ...] | None
    tests: tuple[str, ...]


PCM_TESTS = "pcm or prcm or gather or correlations or permuting or refinement"
TARGETS = (
    Target("tool/losses.py", None, ("tests/tool/test_losses.py",)),
    Target("tool/cam.py", None, ("tests/tool/test_cam.py",)),
    Target("tool/metrics.py", None, ("tests/tool/test_metrics.py",)),
    Target(
        "network/cpn.py",
        ("pixel_correlation", "spatial_gather", "pixel_region_correlation", "refine"),
        ("tests/network/test_cpn.py", "-k", PCM_TESTS),
    ),
)

# Name of the mutant -> why nothing can tell it from the original.
ONE_KIND = "the maps of all branches have one device and number type"
EQUIVALENT = {
    **{
        f"tool/losses.py {name}: label = label.to(cams[0]) -> "
        f"label = label.to(cams[{index}])": ONE_KIND
        for name in (
            "cpn_losses",
            "cpn_losses_low_resolution",
            "seam_losses",
            "seam_losses_low_resolution",
        )
        for index in (1, -1)
    },
    **{
        f"tool/losses.py {name}: device = maps.device if isinstance(maps, Tensor) else "
        "maps[0].device -> device = maps.device if isinstance(maps, Tensor) else "
        f"maps[{index}].device": ONE_KIND
        for name in ("_full_precision", "run")  # the function in it
        for index in (1, -1)
    },
    "tool/losses.py hardest_mean: if flat.shape[1] > count: -> if flat.shape[1] >= count:": (
        "the largest `count` of `count` are all"
    ),
    **{
        "tool/losses.py loss_cpcr: channels = a.shape[1] if classes is None or a.shape[1] == "
        "classes + 1 else a.shape[1] - 1 -> "
        "channels = a.shape[1] if classes is None or a.shape[1] == classes + 1 else "
        f"a.shape[1] {last}": "that map is 0 everywhere"
        for last in ("+ 1", "- 0")
    },
    "tool/losses.py _labelled_maps: count = min(int(label.sum(dim=1).max()) + 1, label.shape[1]) "
    "-> "
    "count = min(int(label.sum(dim=1).max()) + 2, label.shape[1])": (
        "another map that is 0 in every term"
    ),
    "tool/losses.py _labelled_maps: order = label.argsort(dim=1, descending=True, stable=True)[:, "
    ":count] -> "
    "order = label.argsort(dim=1, descending=True, stable=False)[:, :count]": (
        "no term depends on the order of maps with equal labels"
    ),
    **{
        "tool/metrics.py update: self._counts[0, :, 0] += present[:self.num_classes] -> "
        f"self._counts[{cell}] += present[:self.num_classes]": (
            "either of the two zeros says background"
        )
        for cell in ("1, :, 0", "-1, :, 0", "0, :, 1", "0, :, -1")
    },
    **{
        "tool/metrics.py _values: present = np.bincount(target.ravel(), minlength=IGNORE_LABEL + "
        "1) -> "
        f"present = np.bincount(target.ravel(), minlength=IGNORE_LABEL + {more})": (
            "the count of 255 is read where 255 occurs alone"
        )
        for more in (0, 2)
    },
    **{
        "tool/metrics.py __init__: self._factor = np.float32(self.BINS) / max(self._highest, "
        "np.float32(1)) -> "
        f"self._factor = np.float32(self.BINS) {factor}": "another number of bins, the same counts"
        for factor in ("* max(self._highest, np.float32(1))", "/ max(self._highest, np.float32(2))")
    },
    "tool/metrics.py __init__: size = int(self._bins(self._highest[None])[0]) + 1 -> "
    "size = int(self._bins(self._highest[None])[0]) + 2": "a bin that no score falls into",
    "tool/metrics.py __init__: size = int(self._bins(self._highest[None])[0]) + 1 -> "
    "size = int(self._bins(self._highest[None])[-1]) + 1": (
        "the only entry is the first and the last"
    ),
    "tool/metrics.py __init__: self._one_a_bin = bool((np.diff(bins) > 0).all()) -> "
    "self._one_a_bin = bool((np.diff(bins) > 1).all())": (
        "the search gives the same counts as the table"
    ),
    "tool/metrics.py _bins: return (scores * self._factor).astype(np.intp) -> "
    "return (scores / self._factor).astype(np.intp)": (
        "limits that share a bin are searched, with the same counts"
    ),
    "network/cpn.py pixel_correlation: trains, pixels = (torch.is_grad_enabled(), g.shape[2]) -> "
    "trains, pixels = (torch.is_grad_enabled(), g.shape[1])": (
        "blocks of any size give the same columns"
    ),
}

# Keyword -> why its value is not changed.
UNCHANGED = {
    "sorted": "an order that a sum forgets",
    "strict": "lengths that the functions themselves make equal",
}

SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.MatMult: None,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutant:
    """One change: its name, and the file's source with it."""

    target: Target
    name: str
    source: str


def mutants(target: Target) -> Iterator[Mutant]:
    """Every change of the target, named "file function: before -> after"."""
    tree = ast.parse((ROOT / target.path).read_text())
    seen: dict[str, int] = {}
    for where, root in _roots(tree, target.functions):
        keywords = [node for node in ast.walk(root) if isinstance(node, ast.keyword)]
        skipped = {id(keyword.value) for keyword in keywords if keyword.arg in UNCHANGED}
        for node in (node for node in ast.walk(root) if id(node) not in skipped):
            for change in _changes(node):
                before = ast.unparse(_statement(root, node))
                undo = change()
                after = ast.unparse(_statement(root, node))
                source = ast.unparse(tree)
                undo()
                if before == after:
                    continue
                name = f"{target.path} {where}: {_difference(before, after)}"
                seen[name] = seen.get(name, 0) + 1
                yield Mutant(target, name if seen[name] == 1 else f"{name} #{seen[name]}", source)


def _roots(tree: ast.Module, functions: tuple[str, ...] | None) -> Iterator[tuple[str, ast.AST]]:
    """(name, node) of the functions, methods and, if functions is None, of the module's
    constants.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (functions is None or node.name in functions):
            yield node.name, node
    for node in tree.body if functions is None else ():
        if isinstance(node, ast.Assign):
            yield "module", node


def _changes(node: ast.AST) -> Iterator:
    """Functions that change node in place and return the one that undoes it."""

    def replace(field: str, value):
        def change():
            old = getattr(node, field)
            setattr(node, field, value)
            return lambda: setattr(node, field, old)

        return change

    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and (
        swap := SWAPS.get(type(node.op))
    ):
        yield replace("op", swap())
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            swapped = copy.copy(node.ops)
            swapped[index] = SWAPS[type(operator)]()
            yield replace("ops", swapped)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield replace("op", ast.UAdd())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert | ast.Not):
        yield replace("operand", ast.UnaryOp(node.op, node.operand))
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield replace("value", not node.value)
        elif isinstance(node.value, int):
            yield replace("value", node.value + 1)
            yield replace("value", node.value - 1)
        elif isinstance(node.value, float):
            yield replace("value", node.value * 1.5 if node.value else 0.5)


def _statement(root: ast.AST, node: ast.AST) -> ast.AST:
    """The smallest statement, or the arguments, of root that hold node."""
    best = root
    for candidate in ast.walk(root):
        if isinstance(candidate, ast.stmt | ast.arguments) and any(
            child is node for child in ast.walk(candidate)
        ):
            best = candidate  # ast.walk goes outside in
    return best


def _difference(before: str, after: str) -> str:
    """The line that changed, "before -> after"."""
    return next(
        f"{a.strip()} -> {b.strip()}"
        for a, b in zip(before.splitlines(), after.splitlines(), strict=True)
        if a != b
    )


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from other source than its file's."""

    def __init__(self, mutant: Mutant) -> None:
        self.name, self.mutant = mutant.target.path.removesuffix(".py").replace("/", "."), mutant

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def exec_module(self, module) -> None:
        module.__file__ = str(ROOT / self.mutant.target.path)
        exec(compile(self.mutant.source, module.__file__, "exec"), module.__dict__)


def survives(mutant: Mutant) -> bool:
    """Whether the tests pass with the mutant."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(SECONDS)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            sys.meta_path.insert(0, _Mutated(mutant))
            import pytest

            status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *mutant.target.tests]))
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def main() -> None:
    """Run the mutants and list the survivors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="one file (default: all)")
    parser.add_argument("--match", default="", help="only mutants whose name holds this text")
    args = parser.parse_args()
    os.chdir(ROOT)
    # What the tests import; the project itself must be imported anew in each process.
    for library in (
        "cv2",
        "hypothesis.extra.numpy",
        "pytest",
        "scipy.ndimage",
        "skimage.segmentation",
        "tensorboard",
        "timm",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    assert not any(name.split(".")[0] in ("tool", "network", "voc12") for name in sys.modules)
    start, count, survivors, known = time.monotonic(), 0, [], 0
    for target in TARGETS:
        if args.only not in (None, target.path):
            continue
        for mutant in mutants(target):
            if args.match not in mutant.name:
                continue
            count += 1
            if mutant.name in EQUIVALENT:
                known += 1
            elif survives(mutant):
                survivors.append(mutant.name)
                print(f"survived: {mutant.name}", flush=True)
    print(
        f"{count} mutants, {known} equivalent by reason given, {count - known - len(survivors)} "
        f"noticed, {len(survivors)} survived, {time.monotonic() - start:.0f} s"
    )
    raise SystemExit(1 if survivors else 0)


if __name__ == "__main__":
    main()

"""The mutants of tests/mutate.py: each is another program, and those that nothing can tell from the
original are still there.
"""

import ast

from tests.mutate import EQUIVALENT, ROOT, TARGETS, mutants


def test_mutants_differ_from_their_file_and_have_names_of_their_own():
    names = set()
    for target in TARGETS:
        original = ast.unparse(ast.parse((ROOT / target.path).read_text()))
        for mutant in mutants(target):
            compile(mutant.source, target.path, "exec")
            assert mutant.source != original, mutant.name
            assert mutant.name not in names, mutant.name
            names.add(mutant.name)
    assert set(EQUIVALENT) <= names  # a reason for a line that has changed is out of date
    assert {name.split(":")[0] for name in names} >= {
        "tool/losses.py loss_tcp",
        "tool/metrics.py iou_table",
        "tool/cam.py normalise_cam",
        "network/cpn.py pixel_region_correlation",
    }

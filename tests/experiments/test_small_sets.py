"""Sets of few photographs: what is drawn, and how distances are summed up."""

from experiments.small_sets import CLASSES, FEWEST, MOST, small_set, summary


def test_sets_have_one_to_six_classes_and_forty_to_a_hundred_and_twenty_photographs():
    sets = [small_set(number) for number in range(12)]
    assert [len(own.classes) for own in sets] == 2 * [1, 2, 3, 4, 5, 6]
    assert all(set(own.classes) <= set(CLASSES) for own in sets)
    assert all(FEWEST <= own.count + own.negatives <= MOST for own in sets)
    assert len({own.count + own.negatives for own in sets}) > 6
    assert sets == [small_set(number) for number in range(12)]


def test_a_set_of_one_class_has_as_many_photographs_without_it():
    own = small_set(0)
    assert own.count // 2 <= own.negatives <= own.count + 1
    assert small_set(1).negatives == 0


def test_summary_keeps_sets_that_chose_apart_from_those_that_test():
    rows = [
        {"set": number, "refined": {"below": below}, "agreed": {"below": 2 * below}}
        for number, below in enumerate([1.0, 3.0, 0.0, 0.5])
    ]
    lines = summary(rows)
    assert lines[0] == "refined  choose  2 sets: auto is 2.00 below the best, at most 3.00"
    assert lines[1] == "refined  test    2 sets: auto is 0.25 below the best, at most 0.50"
    assert lines[5] == "agreed   all     4 sets: auto is 2.25 below the best, at most 6.00"

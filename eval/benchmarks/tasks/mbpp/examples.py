"""Three worked examples in the form of MBPP, written for this project: none is in MBPP or MBPP+."""

from typing import Any


def worked() -> list[dict[str, Any]]:
    return [
        {
            "task_id": -1,
            "prompt": "Write a function to find how many vowels stand before the first digit of a given string.",
            "code": (
                "def vowels_before_digit(text):\n"
                "    count = 0\n"
                "    for letter in text:\n"
                "        if letter.isdigit():\n"
                "            break\n"
                "        count += letter.lower() in 'aeiou'\n"
                "    return count"
            ),
            "test_list": [
                "assert vowels_before_digit('banana7apple') == 3",
                "assert vowels_before_digit('9ae') == 0",
                "assert vowels_before_digit('Oslo') == 2",
            ],
        },
        {
            "task_id": -2,
            "prompt": "Write a python function to merge the steps of two ladders, from the lowest step to the highest.",
            "code": "def merge_ladders(first, second):\n    return sorted(set(first) | set(second))",
            "test_list": [
                "assert merge_ladders([1, 4], [2, 4]) == [1, 2, 4]",
                "assert merge_ladders([], [3]) == [3]",
                "assert merge_ladders([5, 1], []) == [1, 5]",
            ],
        },
        {
            "task_id": -3,
            "prompt": "Write a function to find the gaps between neighbouring milestones of a given road.",
            "code": (
                "def milestone_gaps(milestones):\n"
                "    return [after - before for before, after in zip(milestones, milestones[1:])]"
            ),
            "test_list": [
                "assert milestone_gaps([0, 3, 10]) == [3, 7]",
                "assert milestone_gaps([4]) == []",
                "assert milestone_gaps([2, 2, 5, 6]) == [0, 3, 1]",
            ],
        },
    ]

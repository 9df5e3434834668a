"""Items of our own in the schemas of multiple-choice and likelihood benchmarks."""

ARC = [
    ("Which of these is a source of light?", ["a mirror", "a window", "the Sun", "a stone"], 2),
    ("What do plants take up through their roots?", ["water", "sound", "light", "wind"], 0),
    ("Which animal lays eggs?", ["cow", "hen", "dog", "horse"], 1),
    ("What melts when it is warmed?", ["sand", "wood", "iron ore", "ice"], 3),
    ("Which tool measures temperature?", ["a ruler", "a scale", "a thermometer"], 2),
    ("What does a magnet attract?", ["iron", "glass", "paper", "wool"], 0),
]


def arc(items: list) -> list[dict]:
    return [
        {
            "id": f"ours-{number}",
            "question": question,
            "choices": {"text": choices, "label": list("ABCD"[: len(choices)])},
            "answerKey": "ABCD"[gold],
        }
        for number, (question, choices, gold) in enumerate(items)
    ]


DATASETS = {
    "allenai/ai2_arc": {
        "ARC-Easy": {"train": arc(ARC[:2]), "validation": arc(ARC[2:3]), "test": arc(ARC)},
    },
}

"""Items of our own in the schemas of benchmarks whose answers are written."""

GSM8K = [
    (
        "Mia has 3 boxes with 4 pens each. How many pens does she have?",
        "Each box has 4 pens, so 3 boxes have 3 * 4 = <<3*4=12>>12 pens.\n#### 12",
    ),
    (
        "A bus carries 20 people. 6 get off and 2 get on. How many are on the bus?",
        "20 - 6 = <<20-6=14>>14.\n14 + 2 = <<14+2=16>>16.\n#### 16",
    ),
    ("Tom reads 5 pages a day. How many pages does he read in a week?", "5 * 7 = <<5*7=35>>35 pages.\n#### 35"),
]

DATASETS = {
    "openai/gsm8k": {
        "main": {split: [{"question": q, "answer": a} for q, a in GSM8K] for split in ("train", "test")},
    },
}

"""The worked examples of the GSM8K prompts: the questions of Wei et al. (2022), whose answers are text or programs."""

from pathlib import Path
from typing import Any

import yaml

# Solutions of our own to the first five questions. The authors' script draws five of eight programs of its own.
SOLUTIONS = (
    """
    trees_before = 15
    trees_after = 21
    return trees_after - trees_before""",
    """
    cars_parked = 3
    cars_arriving = 2
    return cars_parked + cars_arriving""",
    """
    leah = 32
    sister = 42
    eaten = 35
    return leah + sister - eaten""",
    """
    lollipops_before = 20
    lollipops_after = 12
    return lollipops_before - lollipops_after""",
    """
    toys = 5
    from_each_parent = 2
    return toys + 2 * from_each_parent""",
)


def worked() -> list[dict[str, Any]]:
    """Eight questions with `target`, a chain of thought that ends in "The answer is N.", as lm-eval ships them."""
    import lm_eval.tasks

    path = Path(next(iter(lm_eval.tasks.__path__))) / "gsm8k" / "gsm8k-cot.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["fewshot_config"]["samples"]


def programs() -> list[dict[str, Any]]:
    """Five of these questions with a program as `target`, fenced as code."""
    return [
        {"question": example["question"], "target": f"```python\ndef solution():{solution}\n```"}
        for example, solution in zip(worked(), SOLUTIONS, strict=False)
    ]

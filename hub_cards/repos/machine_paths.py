"""What a copy must not tell of the machine it was made on: absolute paths become `.`, or their last part."""

import re
from pathlib import Path

# A path of two parts or more that begins where a word may begin; what stands after `:`, `/` or a word is a part of a
# URL, of a relative path or of a fraction.
ABSOLUTE = re.compile(r"(?<![\w.:/~\])}>$*-])(?:/[\w.@+~=-]+)+/([\w.@+~=-]+)")
ON_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:(?:\\{1,2}[^\\\"'\s]+)*\\{1,2}([^\\\"'\s]+)")


def without_machine_paths(text: str, run: Path) -> str:
    """`text` with the folder of the run as `.`, and of any other absolute path only its last part."""
    for folder in {str(run.resolve()), str(run.absolute())} - {"/"}:
        text = re.sub(rf"{re.escape(folder)}(?![\w.-])", ".", text)
    return ON_WINDOWS.sub(r"\1", ABSOLUTE.sub(r"\1", text))

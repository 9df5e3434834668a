"""What a tactic does to a state, asked of a `lean` binary: the state as an example, the tactic, and what is left.

Lean runs programs while it elaborates, so text that names any way to them is not given to it: it stays unchecked.
Still, Lean is no sandbox; docs/synthesis-kinds.md says so. Where the state cannot be written down as an example here
(a header is missing, a type is cut), nothing is said of the tactic.
"""

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from data_recipes.synthesis.kinds.base import Rejected
from data_recipes.synthesis.kinds.lean_states import NO_GOALS, Goal, shown_state, state_goals

SECONDS = 120.0
MEMORY_MB = 8192
# Commands and words by which Lean's elaborator runs programs, reads files, or believes without a proof.
_FORBIDDEN = re.compile(
    r"#\s*[a-z]{2,}|\b(?:run_tac|run_cmd|run_meta|run_elab|by_elab|elab\w*|macro\w*|syntax|notation\w*|infix\w*|prefix|postfix"
    r"|unsafe\w*|unsafeIO|implemented_by|extern|initialize|builtin_\w+|eval%|IO|EIO|BaseIO|Process|FilePath|include_str"
    r"|axiom|opaque|native_decide|bv_decide|polyrith|simproc\w*|dsimproc\w*|declare_\w+|attribute|set_option|import"
    r"|decl_name%|json%|instance|def|theorem|lemma|example|abbrev|structure|class|inductive|deriving|mutual|end"
    r"|Lean|Elab|Meta|Tactic|sorry\w*|admit|stop)\b|@\[|\+native|native\s*:="
)
_HEADER_LINE = re.compile(
    r"(?:import [\w.]+|open [\w. ]+|universe [\w ]+|noncomputable section|section|set_option maxHeartbeats \d+)"
)
_UNIVERSE = re.compile(r"\b(?:Type|Sort)\s+\(?(?:max\s+)?([a-z]\w*(?:_\d+)?)")
VARIABLES = ("PATH", "HOME", "LEAN_PATH", "LEAN_SYSROOT")
"""Of the environment: where Lean and its libraries are, and no key."""
INACCESSIBLE = "_inaccessible"


@dataclass(frozen=True)
class Message:
    severity: str
    line: int
    data: str


@dataclass(frozen=True)
class Effect:
    """What Lean said: an error's first line, or the state after the tactic."""

    state_after: str
    error: str = ""


def effect_of(lean: str, state: str, tactic: str, header: str = "") -> Effect | None:
    """What `tactic` does to the first goal of `state`; None where that cannot be found out here."""
    try:
        first, *others = state_goals(state)
    except (Rejected, ValueError):
        return None
    source = written(first, tactic, header)
    if source is None:
        return None
    text, tactic_line = source
    messages = run_lean(lean, text)
    if messages is None:
        return None
    errors = [message for message in messages if message.severity == "error"]
    if any(message.line < tactic_line for message in errors):
        return None  # the state itself is not understood here
    if errors:
        return Effect("", errors[0].data.strip().partition("\n")[0] or "error")
    traced = [message.data for message in messages if message.line == text.count("\n") - 1]
    if len(traced) != 1:  # the end of the example was never reached, such as where a comment opens
        return None
    try:
        left = state_goals(traced[0].replace(INACCESSIBLE, "✝").strip() or NO_GOALS)
    except Rejected:
        return None
    return Effect(shown_state([*left, *others]))


def written(goal: Goal, tactic: str, header: str) -> tuple[str, int] | None:
    """A file with the goal as an example twice, first without the tactic, and the line from which the second begins."""
    lines = [line.strip() for line in header.splitlines() if line.strip() and not line.strip().startswith("--")]
    if not all(map(_HEADER_LINE.fullmatch, lines)):
        return None
    binders = []
    for names, kind in goal.hypotheses:
        if ":=" in kind:
            return None  # a local definition is no hypothesis
        if names[0].startswith("inst✝"):
            binders.append(f"[{kind}]")
        else:
            binders.append(f"({' '.join(names)} : {kind})")
    parts = "\n".join([*binders, goal.target, tactic])
    if _FORBIDDEN.search(parts):
        return None
    universes = " ".join(dict.fromkeys(_UNIVERSE.findall("\n".join(binders) + goal.target)))
    claim = _indented(f"example {' '.join(binders)} :\n{goal.target} := by".replace("✝", INACCESSIBLE))
    head = "\n".join([*lines, *([f"universe {universes}"] if universes else [])])
    before = f"{head}\n\n{claim}\n  sorry\n\n"
    return f"{before}{claim}\n{_block(tactic)}\n  trace_state\n  all_goals sorry\n", before.count("\n") + 1


def _indented(text: str) -> str:
    """Later lines indented, so that no line begins a command."""
    return text.replace("\n", "\n    ")


def _block(tactic: str) -> str:
    lines = tactic.strip("\n").splitlines()
    inner = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join("  " + line[inner:] for line in lines)


def run_lean(lean: str, text: str) -> list[Message] | None:
    """Lean's messages on a file; None where it does not end or does not speak JSON."""
    with tempfile.TemporaryDirectory(prefix="lean-") as folder:
        path = Path(folder) / "Step.lean"
        path.write_text(text, encoding="utf-8")
        environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        try:
            done = subprocess.run(
                [lean, "--json", f"--memory={MEMORY_MB}", str(path)],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
    try:
        said = [json.loads(line) for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
        messages = [Message(one["severity"], int(one["pos"]["line"]), str(one.get("data", ""))) for one in said]
    except (ValueError, KeyError, TypeError):
        return None
    return messages if done.returncode in (0, 1) else None

"""What every refusal looks like: exit 2 and one message of at most three lines, on stderr."""

from types import SimpleNamespace


def check_refusal(result: SimpleNamespace, named: str) -> None:
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.code == 2, result.stderr
    assert lines, "no message"
    assert lines[0].startswith("error: "), result.stderr
    assert len(lines) <= 3, result.stderr
    assert "Traceback" not in result.stderr
    assert named in result.stderr
    assert result.stdout == ""

"""The child process of `judge`: reads a number and two TeX answers, a JSON list a line, and writes the number and
whether they are equal.

Equal are texts that are the same once normalised (Lewkowycz et al., 2022, appendix D), and expressions that
math-verify finds equal. The harness also asks sympy's `parse_latex`, which reads "5,6" as 5; we do not.
"""

import json
import resource
import sys

from data_recipes.answers.normal_form import normalize_final_answer

MEMORY = 2 * 2**30
CPU_SECONDS = 60  # of one comparison: ends a child whose parent, which would have ended it long before, is gone


def main() -> None:
    from math_verify import parse, verify

    def equal(gold: str, answer: str) -> bool:
        plain = normalize_final_answer(gold), normalize_final_answer(answer)
        if plain[0] == plain[1]:
            return bool(plain[0])
        return bool(verify(parse(f"${gold}$"), parse(f"${answer}$")))

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a parser prints is no verdict
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_SECONDS, hard_limit))
        try:
            number, gold, answer = json.loads(line)
        except ValueError:
            continue  # half a line, of a parent that is gone
        try:
            verdict = equal(gold, answer)
        except (Exception, RecursionError, MemoryError):
            verdict = False
        print(json.dumps([number, verdict]), file=answers, flush=True)


if __name__ == "__main__":
    main()

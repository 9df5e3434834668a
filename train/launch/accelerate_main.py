"""`accelerate launch` as a script, without its tracebacks around the message of the script that it has started."""

import logging
import signal
import sys

from accelerate.commands.launch import main
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def run() -> int:
    """The exit code of the first rank that failed; 2 for options that accelerate refuses."""
    # The launcher of several ranks logs how each of them ended, a traceback of its own included.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        print(
            f"error: rank {rank} was ended by {name}; the same command resumes from the last checkpoint.",
            file=sys.stderr,
        )
        return 128 - failure.exitcode
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ValueError as error:
        print(f"error: accelerate launch: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run())

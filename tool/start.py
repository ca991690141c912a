"""What a script does before it imports what takes seconds. Scripts import this first.

Threads of OpenMP, which computes torch's operations, spin at the end of each operation for the next
one. Two commands on the same cores then spend their time on waiting for each other: two trainings
took twice as long together as one after the other (benchmarks/RESULTS.md). Here they go to sleep
after SPINS turns, long enough for a next operation that follows at once, unless the user has set
one of the runtime's variables. The runtime reads them once, when torch loads it (libgomp in torch's
builds for Linux, libomp or Intel's elsewhere); processes that are started later inherit them.
"""

import importlib
import os
import signal
from functools import partial

from tool.errors import run_script
from tool.parent import end_with_parent

# Passive waiting by the standard's name. The others are runtimes' own, for the same thing.
WAIT_POLICY = "OMP_WAIT_POLICY"
SPIN_COUNT = "GOMP_SPINCOUNT"  # libgomp's; it goes before the policy
SPINS = 1000  # turns; libgomp has 300,000 by default and none when passive
TORCHRUN = "TORCHELASTIC_RUN_ID"  # in the environment of what torchrun starts
WAIT_SETTINGS = (WAIT_POLICY, SPIN_COUNT, "KMP_BLOCKTIME")


def let_threads_sleep() -> None:
    """Have OpenMP's threads soon sleep where they wait, unless the environment says how they
    wait.
    """
    if not any(name in os.environ for name in WAIT_SETTINGS):
        os.environ |= {WAIT_POLICY: "PASSIVE", SPIN_COUNT: str(SPINS)}


def end_at_ctrl_c() -> None:
    """Have Ctrl-C end the process at once until run_script is called with the work, as the shell
    expects of a program that has done nothing yet: the imports would end in a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def answer_flags(module: str, description: str | None) -> None:
    """Answer --help and mistakes in the command line by a module's parse_args; returns where there
    are none. Ctrl-C is as in end_at_ctrl_c. Where torchrun is killed, the ranks that it has started
    are told to end.
    """
    end_at_ctrl_c()
    parse_args = importlib.import_module(module).parse_args
    if TORCHRUN in os.environ:
        end_with_parent()
    run_script(lambda _: None, partial(parse_args, description=description))
    end_at_ctrl_c()


let_threads_sleep()

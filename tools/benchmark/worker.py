"""One library in a process of its own: answers lines of JSON until its input ends."""

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from rows import Row, UnsupportedError


def serve(prepare: Callable[[Row, str], tuple[Callable[[], Any], dict[str, Any]]]) -> None:
    """`prepare` builds what is to be timed, ready to be called and done when it returns, and says
    what there is to say about it.
    """
    replies, sys.stdout = sys.stdout, sys.stderr
    run: Callable[[], Any] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "prepare":
            run = None
            try:
                run, answer = prepare(Row.from_json(request["row"]), request["pass"])
            except UnsupportedError as error:
                answer = {"unsupported": str(error)}
        else:
            assert run is not None
            answer = {"seconds": mean_time(run, request["seconds"])}
        print(json.dumps(answer), file=replies, flush=True)


def mean_time(run: Callable[[], Any], at_least: float) -> float:
    """The mean of as many calls as take so many seconds, one at least, after one more."""
    run()
    calls, start = 0, time.perf_counter()
    while not calls or time.perf_counter() - start < at_least:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]).prepare)

"""Serves one library in a process of its own: answers lines of JSON until its input ends."""

import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rows import Task, UnsupportedError


# A call that takes longer (in seconds) needs no call before it to fill the caches.
LONG = 0.1


def serve(prepare: Callable[..., tuple[Callable[[], Any], dict[str, Any]]]) -> None:
    """Answers requests about one library. `prepare` builds the function to be timed, which has done
    its work when it returns, and a dictionary of what is known about it.
    """
    replies, sys.stdout = sys.stdout, sys.stderr
    run: Callable[[], Any] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "versions":
            answer = versions(request["names"])
        elif request["do"] == "prepare":
            run = None
            try:
                run, answer = prepare(Task.from_json(request["task"]), **request["options"])
            except UnsupportedError as error:
                answer = {"unsupported": str(error)}
        else:
            assert run is not None
            answer = {"seconds": mean_time(run, request["seconds"])}
        print(json.dumps(answer), file=replies, flush=True)


def mean_time(run: Callable[[], Any], at_least: float) -> float:
    """Calls until `at_least` seconds have passed, after one call to warm up, and returns the mean
    time of a call. A long call is timed once.
    """
    start = time.perf_counter()
    run()
    if (first := time.perf_counter() - start) > LONG:
        return first
    calls, start = 0, time.perf_counter()
    while not calls or time.perf_counter() - start < at_least:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls


def versions(names: Iterable[str]) -> dict[str, str]:
    """Finds the versions of this Python and of those distributions that are installed."""
    found = {"Python": platform.python_version()}
    for name in dict.fromkeys(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]).prepare)

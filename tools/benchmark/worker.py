"""One library in a process of its own: answers lines of JSON until its input ends."""

import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rows import Task, UnsupportedError


# A call that takes longer needs none before it to fill the caches.
LONG = 0.1


def serve(prepare: Callable[..., tuple[Callable[[], Any], dict[str, Any]]]) -> None:
    """`prepare` builds what is to be timed, ready to be called and done when it returns, and says
    what there is to say about it.
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
    """The mean of as many calls as take so many seconds, one at least, after one more."""
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
    """Of this Python, and of the distributions that are installed."""
    found = {"Python": platform.python_version()}
    for name in dict.fromkeys(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]).prepare)

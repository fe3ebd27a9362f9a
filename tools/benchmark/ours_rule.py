"""Makes layers of this project with one rule of the choice of forms applied on any jaxlib, or with
the reference in place of the form that the rule chooses.
"""

import hashlib
from typing import Any

import ours
from rows import Task

from pdequinox_physconv._cpu import choice


RULES = choice.RULES


def prepare(task: Task, index: int, form: str) -> Any:
    """Prepares a task, as `worker.serve` describes. The answer has a hash of the program before XLA
    optimises it, by which programs are told apart.
    """
    rule = RULES[index]._replace(form=form, structural=True)
    choice.RULES = (*RULES[:index], rule, *RULES[index + 1 :])
    run, answer = ours.prepare(task)
    text = run.lowered.as_text()
    return run, answer | {"program": hashlib.sha256(text.encode()).hexdigest()}

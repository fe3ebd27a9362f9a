"""This project, with a rule of the choice of forms made to apply to any jaxlib, or with the
reference in the place of the form that it chooses.
"""

import hashlib
from typing import Any

import ours
from rows import Task

from pdequinox_physconv._cpu import choice


RULES = choice.RULES


def prepare(task: Task, index: int, form: str) -> Any:
    """See `worker.serve`. The answer tells programs apart that differ before XLA optimises them."""
    rule = RULES[index]._replace(form=form, structural=True)
    choice.RULES = (*RULES[:index], rule, *RULES[index + 1 :])
    run, answer = ours.prepare(task)
    text = run.lowered.as_text()
    return run, answer | {"program": hashlib.sha256(text.encode()).hexdigest()}

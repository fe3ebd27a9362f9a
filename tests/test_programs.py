"""Tests that the comparison of programs sees what they compute, not how functions divide them."""

import json
import subprocess
import sys
from pathlib import Path


TOOLS = Path(__file__).resolve().parents[1] / "tools"

CUT = """
import sys
import jax, jax.numpy as jnp
sys.path.insert(0, sys.argv[1])
from programs import stable

@jax.jit
def step(x, y):
    return jnp.sin(x) - y, x * y

def loop(step):
    def twice(carry, _):
        x, y = step(*carry)
        return step(y, x), x
    function = lambda x, y: jax.lax.scan(twice, (x, y), length=3)
    return stable(jax.jit(function).trace(*2 * [jax.ShapeDtypeStruct((4,), "float32")]).lower())

def other(x, y):
    return jnp.sin(x) - y, x * y

print(loop(step) == loop(jax.jit(lambda *xy: step(*xy))) == loop(other))
print(loop(step) == loop(lambda x, y: (jnp.sin(y) - x, x * y)), "call" in loop(step))
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=TOOLS
    )


def test_functions_are_inlined():
    finished = run("-c", CUT, TOOLS)
    assert finished.stdout.split() == ["True", "False", "False"], finished.stderr


def test_a_difference_is_shown(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    recorded = run("programs.py", "record", old, "--only", "pad 2-D mixed: forward")
    assert recorded.returncode == 0, recorded.stderr
    found = json.loads(old.read_text())
    assert run("programs.py", "compare", old, old).returncode == 0
    name = "pad 2-D mixed: forward, tpu"
    assert "stablehlo.negate" in found["programs"][name]
    found["programs"][name] = found["programs"][name].replace("negate", "abs")
    new.write_text(json.dumps(found))
    compared = run("programs.py", "compare", old, new)
    assert compared.returncode == 1, compared.stderr
    assert f"  {name}\n" in compared.stdout and "stablehlo.abs" in compared.stdout
    assert compared.stdout.endswith("1 of 3 programs differ.\n")

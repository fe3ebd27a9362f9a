"""How a CPU transforms an axis."""

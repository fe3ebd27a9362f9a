"""Chooses how an axis is transformed on a CPU and, as far as is known, on other devices."""

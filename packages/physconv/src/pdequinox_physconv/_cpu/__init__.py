"""Carries out the convolutions on a CPU: forms, and the choice among them."""

"""Transforms the field of a row and back: a limit for layers that transform the whole field."""

from limits import transforms as prepare


__all__ = ["prepare"]

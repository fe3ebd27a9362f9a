"""The numbers of a row, read and written once."""

from limits import copy as prepare


__all__ = ["prepare"]

"""Hold every library to one thread, before any of them is loaded."""

from process import pin

pin(1)

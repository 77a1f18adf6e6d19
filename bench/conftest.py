"""Hold every library to one thread, before any of them is loaded."""

from machine import pin

pin(1)

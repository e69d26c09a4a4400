"""Measurements of parts: devices, convolutions, reading, seeds in one program."""

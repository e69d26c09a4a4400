"""Timing of updates and of whole runs, in interleaved processes."""

"""Timing of updates and of whole runs, in processes that take turns."""

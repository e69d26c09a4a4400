"""Compiled programs, read: what they launch, what they multiply, and the accelerators that they are for."""

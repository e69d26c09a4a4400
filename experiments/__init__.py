"""Scripts that parse flags and call the library; run them as `python -m experiments.NAME`."""

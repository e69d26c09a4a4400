"""The page that compares runs; `jaxgan report` fills it."""

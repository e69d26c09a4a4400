"""The page that compares runs; `jaxgan report` fills it.

runs.py        what is read of a run's folder, which runs are the seeds of one entry, and which may be compared
tables.py      what the tables say
figures.py     curves, dots and sample grids as pictures within the page
page.html      what the page says; page.css: how it looks
"""

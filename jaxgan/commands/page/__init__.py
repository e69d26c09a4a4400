"""The parts of the page that compares runs; `experiments.report` puts them together.

runs.py        what is read of a run's folder, and which runs are the seeds of one entry
compare.py     which scores may be compared; means and deviations; which settings differ
markup.py      HTML as strings, with all text escaped
figures.py     curves and dots as SVG
pictures.py    sample grids as data
scores.py      the tables of scores
sections.py    the other sections of the page
style.py       how it looks
"""

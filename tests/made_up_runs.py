"""Runs that nobody trained, as folders of small files; and a page about runs, read as a browser would."""

import json
from html.parser import HTMLParser

import numpy as np

from jaxgan import images

VOID = {"meta", "img", "br"}
CONFIG = {"recipe": "small", "data": "digits", "batch_size": 16, "beta1": 0.5, "data_sha256": "d" * 64}


class Page(HTMLParser):
    """A page as the rows of its tables, the text of its sections by heading, and all attributes.

    Tags that are not closed, or not in order, are errors.
    """

    def __init__(self, source):
        super().__init__()
        self.open, self.attributes, self.tables, self.sections, self.text = [], [], [], {}, ""
        self._heading = None
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self._heading = ""

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "h2":
            self.sections[self._heading] = ""

    def handle_data(self, data):
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.text += data
        if "h2" in self.open:
            self._heading += data
        elif self.sections:
            self.sections[self._heading] += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data + " " * (self.open[-1] in ("span", "small", "data"))

    def table(self, *heads):
        """The rows, without the head, of all tables whose head has these cells; with single spaces."""
        tables = [[[" ".join(cell.split()) for cell in row] for row in rows] for rows in self.tables]
        return [rows[1:] for rows in tables if set(heads) <= set(rows[0])]


def score(frechet=5.0, step=4, **changes):
    return {
        "step": step,
        "weights": "averaged",
        "count": 1000,
        "seed": 0,
        "features": {"name": "digits", "sha256": "f" * 64},
        "reference": {"data": "digits", "split": "odd", "count": 898, "sha256": "e" * 64},
        "scores": {"frechet_distance": frechet, "precision": 0.5, "recall": frechet / 100},
        "floor": {"frechet_distance": 0.25, "precision": 0.875, "recall": 0.9, "count": 899},
        **changes,
    }


def workdir(path, final=None, best=None, steps=4, ended=True, **config):
    """A run of four steps that nobody trained."""
    (path / "samples").mkdir(parents=True)
    seed = config.get("seed", 0)
    (path / "config.json").write_text(json.dumps({**CONFIG, "seed": 0, **config}))
    lines = [
        {"step": s, "seconds": s / 2, "loss_gen": s + seed, "loss_disc": 1.5, "logit_real": None} for s in (1, 2, 3, 4)
    ]
    lines[-1]["frechet_distance"] = 7.5
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in range(0, 5):
        picture = np.full((12, 12, 1), 50 * step, np.uint8)
        images.save_png(path / "samples" / f"{step:06d}.png", picture)
    if ended:
        summary = {"recipe": "small", "seed": seed, "step": steps, "state_sha256": "a1" * 32, "seconds": 12.5}
        summary |= {"images_per_second": 321.0, "devices": ["cpu", "cpu"], "jax_version": "0.10.2"}
        summary |= {name: value for name, value in (("final", final), ("best", best)) if value is not None}
        (path / "summary.json").write_text(json.dumps(summary))
    return path

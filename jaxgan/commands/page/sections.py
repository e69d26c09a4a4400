"""The sections of the page but that of the scores: settings, curves, samples, details."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxgan.commands.page import figures, pictures
from jaxgan.commands.page.compare import best_of, differing, number, scored_alike, value_of
from jaxgan.commands.page.markup import NONE, dash, facts, image, section, table, tag, text
from jaxgan.commands.page.runs import Entry, Run
from jaxgan.commands.page.scores import badge, count_of, measured, named, title
from jaxgan.commands.scored_run import COUNT
from jaxgan.commands.scoring import duplicates
from jaxgan.run.plots import LOSSES, SCORES, evenly

STRIP = 6  # grids of a run's evolution


def settings(entries: Sequence[Entry]) -> str:
    """The settings that differ between entries, a row each."""
    rows = [
        [tag("code", text(name)), *(dash("not in its config.json") if v is ... else _setting(v) for v in values)]
        for name, values in differing(entries).items()
    ]
    if len(entries) < 2:
        found = tag("p", text("There is one entry alone; its settings are among the details."))
    elif rows:
        found = table("From config.json, where not all are alike", ["Setting", *map(named, entries)], rows, "narrow")
    else:
        found = tag("p", text("None, but for seeds."))
    return section("Settings that differ", found)


def _setting(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value)
    is_digest = len(shown) == 64 and shown.isalnum()
    return tag("span", text(shown[:12] + "…"), title=shown) if is_digest else text(shown).replace(":", ":<wbr>")


def curves(entries: Sequence[Entry]) -> str:
    """Losses, logits and whatever else the runs logged; and the scores, in panels of what may be compared."""
    legend = tag("ul", *(tag("li", named(entry)) for entry in entries), class_="legend")
    known = {name: f"{label}: {curve}" for label, names in LOSSES.items() for name, curve in names.items()}
    of_scores = {name: title(name) for names in SCORES.values() for name in names}
    logged = {name for entry in entries for run in entry.runs for name in run.curves}
    others = {name: title(name) for name in sorted(logged - {*known, *of_scores})}
    note = "A line is a run's running mean; seeds share a colour. "
    note += "Behind it, faint, is what was logged." if figures.are_few(entries) else ""
    parts = [legend, tag("p", tag("small", text(note))), _panels(entries, known, True), _panels(entries, others, True)]
    groups = _curves_alike(entries)
    for why, group in groups:
        if panels := _panels(group, of_scores, False):
            keys = ": " + ", ".join(entry.key for entry in group) if len(groups) > 1 else ""
            parts += [tag("h3", text(f"Scores during training{keys}")), tag("p", text(why), class_="soft"), panels]
    return section("Curves", *parts) if logged else section("Curves", tag("p", dash("no run has logged anything")))


def _panels(entries: Sequence[Entry], names: dict[str, str], smooth: bool) -> str:
    shown = []
    for name, label in names.items():
        having = [entry for entry in entries if any(name in run.curves for run in entry.runs)]
        if having:
            alt = f"{label} over the steps, of {', '.join(f'{entry.key} ({entry.name})' for entry in having)}"
            svg = figures.curves(name, having, alt, smooth)
            shown.append(tag("figure", tag("figcaption", text(label)), svg))
    return tag("div", *shown, class_="plots") if shown else ""


def _curves_alike(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """The runs whose scores during training may be drawn together, as entries of those runs alone, with the reason.

    Older runs do not say what these were measured in. It was what their final scores were measured with, and of a run
    without those it is not known; it is drawn apart, by its data.
    """
    found = []
    for unit in dict.fromkeys(run.unit for entry in entries for run in entry.runs if run.unit):
        found.append((f"Scored by: {unit}.", _only(entries, lambda run, unit=unit: run.unit == unit)))
    old = _only(entries, lambda run: run.unit is None)
    for rows in scored_alike(old):
        features, reference = (rows[0].runs[0].score("final")[name] for name in ("features", "reference"))
        what = f"{reference.get('data', '?')} ({reference.get('split', '?')}), features {features['name']}"
        group = [dataclasses.replace(entry, runs=runs) for entry, runs in rows]
        found.append((f"Of up to {COUNT:,} samples each time, against {what}.", group))
    unknown: dict[str, list[Entry]] = {}
    for entry in _only(old, lambda run: not run.score("final")):
        if any(name in run.curves for run in entry.runs for names in SCORES.values() for name in names):
            data = str(entry.runs[0].config.get("data_sha256") or entry.runs[0].config.get("data"))
            unknown.setdefault(data, []).append(entry)
    for group in unknown.values():
        why = "There are no final scores to tell what these were measured with: not to be compared with others."
        found.append((why, group))
    return found


def _only(entries: Sequence[Entry], which: Callable[[Run], bool]) -> list[Entry]:
    """The entries with those of their runs alone; those that have none are left out."""
    chosen = [dataclasses.replace(entry, runs=[run for run in entry.runs if which(run)]) for entry in entries]
    return [entry for entry in chosen if entry.runs]


def samples(entries: Sequence[Entry]) -> str:
    """The last grids side by side, and how each entry's came about."""
    last, strips = [], []
    for entry in entries:
        run = next((run for run in entry.runs if run.grids), None)
        if run is None:
            last.append(tag("figure", tag("figcaption", named(entry), "<br>", dash("there are no sample grids"))))
            continue
        where = f"step {int(run.grids[-1].stem):,}" + (f", seed {run.seed}" if len(entry.runs) > 1 else "")
        picture = _picture(run.grids[-1], f"Samples of {entry.key} ({entry.name}) at {where}", pictures.LARGE)
        last.append(tag("figure", picture, tag("figcaption", named(entry), "<br>", text(where))))
        items = [
            tag("li", tag("figure", _picture(p, f"Samples of {entry.key} at step {int(p.stem)}", pictures.SMALL),
                          tag("figcaption", text(f"step {int(p.stem):,}"))))
            for p in evenly(run.grids, STRIP)
        ]  # fmt: skip
        strip = tag("ul", *items, class_="strip")
        label = f"Samples of {entry.key} over its training"
        box = tag("div", strip, class_="scroll", role="region", aria_label=label, tabindex="0")
        strips.append(tag("h4", named(entry)) + box)
    parts = [tag("div", *last, class_="grids")]
    if strips:
        parts += [tag("h3", text("Over the training")), *strips]
    return section("Samples", *parts)


def _picture(path: Path, alt: str, limits: tuple[int, int]) -> str:
    try:
        picture = pictures.embedded(path, limits)
    except Exception as error:  # of Pillow's there are many kinds
        why = getattr(error, "strerror", None) or error
        return tag("p", dash(f"{path.name} cannot be read ({why})"))
    return image(picture.uri, alt, picture.width, picture.height, picture.kind)


def details(entries: Sequence[Entry]) -> str:
    """All that is known of each run, folded."""
    folded = [_run(entry, run) for entry in entries for run in entry.runs]
    return section("Details of each run", *folded)


def _run(entry: Entry, run: Run) -> str:
    heading = tag("summary", badge(entry), text(f"{entry.name}, seed {run.seed}"))
    said = run.summary
    known = [
        ("Folder", tag("code", text(run.workdir))),
        ("Recipe", text(run.config["recipe"])),
        ("Seed", text(run.seed)),
        ("Steps", f"{said['step']:,}" if isinstance(said.get("step"), int) else text(f"{run.last_step:,} logged")),
        ("Seconds", _fact(said, "seconds")),
        ("Images per second", _fact(said, "images_per_second")),
        ("Resumed from step", _fact(said, "steps_resumed_from")),
        ("Devices", _devices(said.get("devices"))),
        ("JAX", _fact(said, "jax_version")),
        ("SHA-256 of the final state", tag("code", _fact(said, "state_sha256"))),
    ]
    why = tag("p", dash(run.lacks())) if run.lacks() else ""
    first = next((other for other in entry.runs if other.grids), None)
    grid = ""
    if run.grids and run is not first:
        picture = _picture(run.grids[-1], f"Samples of {entry.key}, seed {run.seed}", pictures.SMALL)
        grid = tag("figure", picture, tag("figcaption", text(f"step {int(run.grids[-1].stem):,}")))
    everything = tag("pre", text("\n".join(f"{name} = {json.dumps(v)}" for name, v in run.config.items())))
    whole = tag("details", tag("summary", text("All settings")), everything)
    return tag("details", heading, facts(known), why, _scores(run), grid, whole) + "\n"


def _fact(said: dict[str, Any], name: str) -> str:
    """A value of summary.json as markup."""
    value = said.get(name)
    if value is None:
        return dash("not in summary.json" if said else "not finished")
    return text(number(value) if type(value) in (int, float) else value)


def _devices(devices: Any) -> str:
    if not isinstance(devices, list) or not devices:
        return dash("not known")
    return text(", ".join(f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(map(str, devices))))


def _scores(run: Run) -> str:
    """The final and the best scores of a run beside the floor, and what they depend on."""
    final, best = run.score("final"), best_of(run)
    if not final:
        return ""
    rows = []
    for name in dict.fromkeys([*final["scores"], *(best["scores"] if best else ())]):
        values = (value_of(final, name), value_of(best, name), value_of(final, name, "floor"))
        rows.append([text(title(name)), *(NONE if value is None else number(value) for value in values)])
    known = [
        ("Measured", text(measured(final))),
        ("Latents' seed", text(final["seed"])),
        ("Weights", text(final["weights"])),
        ("Floor", text("; ".join([f"of {count_of(final['floor'])} other real images", *duplicates(final["floor"])]))),
        ("SHA-256 of the features", tag("code", text(final["features"]["sha256"]))),
        ("SHA-256 of the reference", tag("code", text(final["reference"].get("sha256", "?")))),
    ]
    head = ["Score", f"Last (step {final['step']:,})", f"Best (step {best['step']:,})" if best else "Best", "Floor"]
    why = "" if best else tag("p", dash("the best generator's scores are not there, or were measured in another way"))
    return table(f"Scores of seed {run.seed}", head, rows) + why + facts(known)

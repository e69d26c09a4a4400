"""Whether the shared update converges as the alternating one does: `python -m experiments.studies.sharing [METHOD …]`.

Every method of `experiments.studies.methods` by the alternating update, beside what that study measured by the shared
one: after as many updates, and after as much time, by the ratio of both updates' times, measured in turns. Started
again, it goes on where it was stopped.
"""

from pathlib import Path

from experiments.studies import methods
from jaxgan.benchmark import updates
from jaxgan.commands import study
from jaxgan.commands.cli import check_flags, check_names, fail, parse, run_script
from jaxgan.recipes.settings import Recipe
from jaxgan.run.workdir import write_json

METHODS = {name: title for name, (title, changes) in methods.METHODS.items() if "update" not in changes}
STUDY = study.Study(
    "sharing",
    "method",
    METHODS,
    {
        "shared": lambda of: methods.distances(of["shared"], of["steps"]),
        "alternating": lambda of: methods.distances(of, of["steps"]),
        "its time": lambda of: f"{of['slower']:.2f}",
        "alternating, in the shared one's time": lambda of: methods.distances(of, of["steps"] / of["slower"]),
        "seeds": lambda of: f"{len(study.values(of['shared'], 'distances'))}, {len(study.values(of, 'distances'))}",
    },
)


def method(name: str, steps: int, update: str = "alternating") -> Recipe:
    """The recipe of a method by one of the updates."""
    return methods.method(name, steps).replace(update=update)


def main(args: list[str] | None = None) -> None:
    """Times both updates of each method, then trains the first seed of each, the second of each, and so on."""
    usual = study.Flags(tuple(METHODS), 3_000, Path("runs/sharing"), page=Path("docs/convergence.md"))
    flags = parse(study.Flags, "experiments.studies.sharing", args, default=usual)
    check_names(flags.rows, tuple(METHODS), STUDY.heading)
    check_flags(flags, seeds=1, steps=10, rounds=0)
    shared = study.read_results(flags.out / "methods.json")
    if missing := [name for name in flags.rows if shared.get(name, {}).get("steps") != flags.steps]:
        fail(f"{flags.out}/methods.json has no {missing[0]} of {flags.steps} steps; make that first")

    def measure(name: str, seeds: int) -> study.Record:
        found = study.train_seeds(STUDY, name, method(name, flags.steps), seeds, flags, methods.of_seed, 10)
        return found | {"shared": {"seeds": shared[name]["seeds"]}}

    study.make_folder(flags.out)
    results = study.read_results(path := flags.out / "sharing.json")
    for name in (name for name in flags.rows if flags.rounds or "slower" not in results.get(name, {})):
        pair = {update: method(name, flags.steps, update) for update in ("shared", "alternating")}
        results[name] = results.get(name, {}) | updates.times(pair, flags.rounds or 3)["alternating"]
        write_json(path, results)
    study.carry_out(STUDY, flags.out, dict.fromkeys(flags.rows, flags.seeds), measure, page=flags.page)


if __name__ == "__main__":
    run_script(main)

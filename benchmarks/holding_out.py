"""Print what holding out each skill of the built-in catalog keeps out of train beside the skill itself.

    python benchmarks/holding_out.py               a table in Markdown
    python benchmarks/holding_out.py --names nli   the tasks, each with the held-out one that it is close to

Relatives share an origin with a task of the skill, over any number of steps. Paired are the tasks of skills that the
catalog's `paired_clusters` name.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from taskmix.catalog import builtin
from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.mixing.holdout import paired, relatives


def kept_out(catalog: Catalog, skill: str) -> tuple[list[str], Mapping[str, str], Mapping[str, str]]:
    """Return the tasks of a skill, its relatives, and those tasks of paired skills that are no relatives."""
    held = [name for name, task in catalog.tasks.items() if task.spec.cluster == skill]
    close = relatives(catalog.tasks.values(), held)
    return held, close, {name: task for name, task in paired(catalog, held).items() if name not in close}


def table(catalog: Catalog, skills: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table with a row for each skill."""
    yield "| skill | held out | relatives | paired | train | skills of the relatives |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for skill in skills:
        held, close, partners = kept_out(catalog, skill)
        left = len(catalog.tasks) - len(held) - len(close) - len(partners)
        counted = Counter(catalog.tasks[name].spec.cluster for name in close)
        where = ", ".join(f"{name} {count}" for name, count in counted.most_common()) or "–"
        yield f"| {skill} | {len(held)} | {len(close)} | {len(partners)} | {left} | {where} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("skills", nargs="*", metavar="SKILL", help="by default all")
    parser.add_argument("--names", action="store_true", help="name the tasks")
    options = parser.parse_args()
    catalog = load_catalog(builtin.catalog_path())
    skills = sorted({task.spec.cluster for task in catalog.tasks.values()})
    if unknown := set(options.skills) - set(skills):
        parser.error(f"no such skill: {', '.join(sorted(unknown))}")
    chosen = options.skills or skills
    if not options.names:
        print("\n".join(table(catalog, chosen)))
        return
    for skill in chosen:
        held, close, partners = kept_out(catalog, skill)
        print(f"{skill}: {', '.join(held)}")
        for name, task in close.items():
            print(f"  relative {name} ({catalog.tasks[name].spec.cluster}), of {task}")
        for name, task in partners.items():
            print(f"  paired {name} ({catalog.tasks[name].spec.cluster}), with {task}")


if __name__ == "__main__":
    main()

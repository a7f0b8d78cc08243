"""Which tasks train, which are held out, and which must appear nowhere."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskmix.catalog.loading import Catalog, CatalogTask
from taskmix.errors import CatalogError, SourceError, nearest
from taskmix.sources.finding import find_splits
from taskmix.text import quoted
from taskmix.urls import is_url, object_store


@dataclass(frozen=True)
class Roles:
    """The tasks of a mixture by role. `excluded` maps tasks that appear nowhere to the held-out one they are close to:

    one of a shared origin, or of a paired cluster.
    """

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    excluded: Mapping[str, str]


def origins(task: CatalogTask) -> frozenset[str]:
    """Return the names under which a task's data may be known: its own, its source's, those it is derived from.

    Files, of this machine or in a store, are known by the source's path and by each of their own, so that a folder, a
    glob and a file of one dataset meet.
    """
    source = task.spec.source
    if source.path is None:
        places = [f"{source.hub}:{source.config}" if source.config else str(source.hub)]
    elif is_url(source.path):
        places = [object_store(source.path), *_objects(source.path)]
    else:
        path = task.root / source.path
        places = [str(each.resolve()) for each in (path, *_data_files(path))]
    return frozenset(name.casefold() for name in (task.name, *places, *task.spec.derived_from))


def _data_files(path: Path) -> list[Path]:
    """Return the files of a local source; none if it is not there, which is an error only for a task that is used."""
    try:
        return [file for files in find_splits(path).values() for file in files]
    except SourceError:
        return []


def _objects(url: str) -> list[str]:
    """Return the places of the objects of a source in a store; none if it does not answer, as for files."""
    # not above: what speaks to stores takes a while to import
    from taskmix.sources import buckets

    try:
        listing = buckets.listed(url)
    except SourceError:
        return []
    folder = listing.url if listing.is_folder else listing.url.rpartition("/")[0]
    return [f"{folder}/{name}" for name in listing.objects]


def relatives(tasks: Iterable[CatalogTask], held: Collection[str]) -> Mapping[str, str]:
    """Return the tasks that share an origin with a held-out one, over any number of steps, and with which."""
    unseen = _known_as(list(tasks))
    found: dict[str, str] = {}
    for start in sorted(held):
        reached, pending = set(), [start]
        while pending:
            shared = unseen[pending.pop()]
            for name, own in unseen.items():
                if name not in reached and own & shared:
                    reached.add(name)
                    pending.append(name)
        for name in reached - set(held):
            found.setdefault(name, start)
    return dict(sorted(found.items()))


def _known_as(tasks: Sequence[CatalogTask]) -> Mapping[str, frozenset[str]]:
    """Return the origins of each task; whoever is derived from a whole dataset is so from each configuration of it."""
    configs: dict[str, set[str]] = {}
    for task in tasks:
        source = task.spec.source
        if source.hub is not None and source.config is not None:
            configs.setdefault(source.hub.casefold(), set()).add(f"{source.hub}:{source.config}".casefold())
    return {
        task.name: origins(task).union(*(configs.get(each.casefold(), ()) for each in task.spec.derived_from))
        for task in tasks
    }


def paired(catalog: Catalog, held: Collection[str]) -> Mapping[str, str]:
    """Return the tasks of clusters that are paired with that of a held-out task, and with which of those."""
    partners: dict[str, set[str]] = {}
    for one, other in catalog.paired_clusters:
        partners.setdefault(one, set()).add(other)
        partners.setdefault(other, set()).add(one)
    found: dict[str, str] = {}
    for name in sorted(held):
        own = partners.get(catalog.tasks[name].spec.cluster, set())
        for other, task in catalog.tasks.items():
            if task.spec.cluster in own and other not in held:
                found.setdefault(other, name)
    return found


def assign_roles(catalog: Catalog, mixture: str, selected: Collection[str]) -> Roles:
    """Split the tasks of a mixture into those that train and those that are held out.

    Raises:
        CatalogError: the holdout names a task or cluster that the mixture does not have, or leaves nothing.
    """
    _, spec = catalog.mixture(mixture)
    clusters = {catalog.tasks[name].spec.cluster for name in selected}
    for kind, named, known in (
        ("clusters", spec.holdout.clusters, clusters),
        ("tasks", spec.holdout.tasks, set(selected)),
    ):
        for index, name in enumerate(named):
            if name not in known:
                raise CatalogError(
                    f"holdout.{kind}: {quoted(name)} is none of the mixture's {kind}",
                    where=catalog.where("mixtures", mixture, "holdout", kind, index),
                    hint=nearest(name, known),
                )
    held = {
        name
        for name in selected
        if name in spec.holdout.tasks or catalog.tasks[name].spec.cluster in spec.holdout.clusters
    }
    partners = paired(catalog, held) if spec.holdout.paired_clusters else {}
    related = {**partners, **relatives(catalog.tasks.values(), held)}
    excluded = {name: related[name] for name in sorted(selected) if name in related}
    train = tuple(name for name in sorted(selected) if name not in held and name not in excluded)
    if not train:
        raise CatalogError(
            "the holdout leaves no task to train on",
            where=catalog.where("mixtures", mixture, "holdout"),
            hint="add tasks, or hold out fewer"
            + (f"; {', '.join(excluded)} share an origin with what is held out" if excluded else ""),
        )
    return Roles(train, tuple(sorted(held)), excluded)

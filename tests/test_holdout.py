"""Who trains and who is held out: no task that shares an origin with a held-out one trains."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.errors import CatalogError
from taskmix.mixing.holdout import Roles, assign_roles, origins, relatives

Project = Callable[..., Path]


def entry(name: str, cluster: str = "c", source: str | None = None, derived_from: Sequence[str] = ()) -> str:
    place = source or f"path: data/{name}"
    return (
        f"  {name}:\n    kind: text-generation\n    cluster: {cluster}\n    source: {{{place}}}\n"
        f"    derived_from: [{', '.join(derived_from)}]\n"
    )


def catalog_of(
    project: Project, *entries: str, holdout: str = "{}", tasks: str = '["*"]', pairs: str = "[]"
) -> Catalog:
    mixture = f"mixtures:\n  m:\n    tasks: {tasks}\n    holdout: {holdout}\n"
    return load_catalog(project(f"version: 1\npaired_clusters: {pairs}\ntasks:\n{''.join(entries)}{mixture}"))


def roles(catalog: Catalog, selected: Sequence[str] | None = None) -> Roles:
    return assign_roles(catalog, "m", list(catalog.tasks) if selected is None else selected)


def test_without_a_holdout_every_task_trains(project: Project) -> None:
    found = roles(catalog_of(project, entry("b"), entry("a")))

    assert found == Roles(train=("a", "b"), heldout=(), excluded={})


def test_named_tasks_and_whole_clusters_are_held_out(project: Project) -> None:
    entries = [entry("a", "nli"), entry("b", "nli"), entry("c", "qa"), entry("d", "qa"), entry("e", "sums")]
    found = roles(catalog_of(project, *entries, holdout="{clusters: [nli], tasks: [d]}"))

    assert found == Roles(train=("c", "e"), heldout=("a", "b", "d"), excluded={})


@pytest.mark.parametrize(
    ("one", "other", "related"),
    [
        pytest.param("hub: org/data", "hub: org/data", True, id="one dataset"),
        pytest.param("hub: org/data", "hub: Org/Data", True, id="in another spelling"),
        pytest.param("hub: org/data", "hub: org/data, revision: v2", True, id="at another revision"),
        pytest.param("hub: org/data, config: x", "hub: org/data, config: x", True, id="one configuration"),
        pytest.param("hub: org/data, config: x", "hub: org/data, config: y", False, id="another configuration"),
        pytest.param("hub: org/data, config: x", "hub: org/data", False, id="a configuration and none"),
        pytest.param("hub: org/data", "hub: org/data2", False, id="another dataset"),
        pytest.param("path: data/x", "path: data/x", True, id="one folder"),
        pytest.param("path: data/x", "path: ./data/x/", True, id="one folder, written otherwise"),
        pytest.param("path: data/x", "path: data/../data/x", True, id="one folder, by a detour"),
        pytest.param("path: data/x", "path: data/y", False, id="another folder"),
    ],
)
def test_tasks_of_one_source_are_relatives(project: Project, one: str, other: str, related: bool) -> None:
    entries = [entry("a", source=one), entry("b", source=other), entry("c")]
    found = roles(catalog_of(project, *entries, holdout="{tasks: [a]}"))

    assert found.heldout == ("a",)
    assert found.excluded == ({"b": "a"} if related else {})
    assert ("b" in found.train) is not related


def test_a_link_to_a_folder_is_the_folder(project: Project, tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "b").symlink_to(tmp_path / "data" / "a")
    found = roles(catalog_of(project, entry("a"), entry("b"), entry("c"), holdout="{tasks: [a]}"))

    assert found.excluded == {"b": "a"}


def test_a_shared_origin_makes_relatives(project: Project) -> None:
    entries = [entry("a", derived_from=["Wiki"]), entry("b", derived_from=["news", "wiki"]), entry("c")]
    found = roles(catalog_of(project, *entries, holdout="{tasks: [a]}"))

    assert found == Roles(train=("c",), heldout=("a",), excluded={"b": "a"})


def test_an_origin_may_be_the_name_of_a_task_or_of_a_dataset(project: Project) -> None:
    entries = [
        entry("a", source="hub: org/data"),
        entry("b", derived_from=["a"]),
        entry("c", derived_from=["org/data"]),
        entry("d"),
    ]
    found = roles(catalog_of(project, *entries, holdout="{tasks: [a]}"))

    assert found == Roles(train=("d",), heldout=("a",), excluded={"b": "a", "c": "a"})


def test_who_is_derived_from_a_dataset_is_so_from_each_of_its_configurations(project: Project) -> None:
    entries = [
        entry("a", source="hub: Org/data, config: x"),
        entry("b", source="hub: org/data, config: y"),
        entry("c", derived_from=["org/data"]),
        entry("d", derived_from=["org/data:z"]),
    ]
    for held, excluded in (("a", {"b": "a", "c": "a"}), ("c", {"a": "c", "b": "c"}), ("d", {})):
        found = roles(catalog_of(project, *entries, holdout=f"{{tasks: [{held}]}}"))
        assert found.excluded == excluded


def test_relatives_are_followed_through_tasks_that_are_not_selected(project: Project) -> None:
    entries = [
        entry("a", derived_from=["x"]),
        entry("between", derived_from=["x", "y"]),
        entry("further", derived_from=["y", "z"]),
        entry("b", derived_from=["z"]),
        entry("c"),
    ]
    catalog = catalog_of(project, *entries, holdout="{tasks: [a]}", tasks="[a, b, c]")

    assert roles(catalog, ["a", "b", "c"]) == Roles(train=("c",), heldout=("a",), excluded={"b": "a"})


def test_a_relative_that_is_held_out_itself_is_not_excluded(project: Project) -> None:
    entries = [entry("a", derived_from=["x"]), entry("b", derived_from=["x"]), entry("c")]
    found = roles(catalog_of(project, *entries, holdout="{tasks: [a, b]}"))

    assert found == Roles(train=("c",), heldout=("a", "b"), excluded={})


@pytest.mark.parametrize(
    ("holdout", "shown"),
    [
        pytest.param("{tasks: [nope]}", ["holdout.tasks", "'nope'"], id="no such task"),
        pytest.param("{tasks: [a, bb]}", ["'bb'"], id="a misspelt task"),
        pytest.param("{clusters: [nope]}", ["holdout.clusters", "'nope'"], id="no such cluster"),
        pytest.param("{tasks: [c]}", ["'c'"], id="a task that is not selected"),
        pytest.param("{clusters: [d]}", ["'d'"], id="a cluster of which no task is selected"),
        pytest.param("{clusters: [c]}", ["no task to train on"], id="everything held out"),
        pytest.param("{tasks: [a, b]}", ["no task to train on"], id="every task named"),
        pytest.param("{tasks: [a]}", ["no task to train on", "b share"], id="the rest are relatives"),
    ],
)
def test_what_cannot_be_held_out_is_an_error(project: Project, holdout: str, shown: Sequence[str]) -> None:
    entries = [entry("a", derived_from=["x"]), entry("b", derived_from=["x"]), entry("c", "d")]
    catalog = catalog_of(project, *entries, holdout=holdout, tasks="[a, b]")
    with pytest.raises(CatalogError) as caught:
        roles(catalog, ["a", "b"])

    assert caught.value.where.endswith(f"catalog.yaml:{catalog.document.line(('mixtures', 'm', 'holdout'))}")
    for part in shown:
        assert part in str(caught.value)


def test_the_nearest_task_is_named(project: Project) -> None:
    with pytest.raises(CatalogError, match="did you mean 'reviews'"):
        roles(catalog_of(project, entry("reviews"), entry("c"), holdout="{tasks: [review]}"))


def components(groups: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
    """Return the tasks that each task is connected to, by merging sets: another way than the one under test."""
    merged: list[tuple[frozenset[str], frozenset[str]]] = []
    for name, own in groups.items():
        touching = [pair for pair in merged if pair[1] & own]
        merged = [pair for pair in merged if not pair[1] & own]
        names = frozenset({name}).union(*(pair[0] for pair in touching))
        merged.append((names, own.union(*(pair[1] for pair in touching))))
    return {name: names for names, _ in merged for name in names}


NAMES = [f"t{n}" for n in range(7)]
ORIGINS = st.lists(st.sampled_from(["o1", "o2", "o3", "o4", "o5", "t0", "t3"]), max_size=2)


@given(
    derived=st.lists(ORIGINS, min_size=len(NAMES), max_size=len(NAMES)),
    held=st.sets(st.sampled_from(NAMES), min_size=1, max_size=3),
    selected=st.sets(st.sampled_from(NAMES)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_no_task_that_trains_is_connected_to_a_held_out_one(
    project: Project, derived: list[list[str]], held: set[str], selected: set[str]
) -> None:
    entries = [entry(name, derived_from=own) for name, own in zip(NAMES, derived, strict=True)]
    catalog = catalog_of(project, *entries, holdout=f"{{tasks: [{', '.join(sorted(held))}]}}")
    connected = components({name: origins(task) for name, task in catalog.tasks.items()})
    near = {name for name in NAMES if connected[name] & held} - held

    assert set(relatives(catalog.tasks.values(), held)) == near
    assert all(connected[name] >= {origin} for name, origin in relatives(catalog.tasks.values(), held).items())

    chosen = selected | held
    if chosen - held - near:
        found = roles(catalog, sorted(chosen))
        assert set(found.train) == chosen - held - near
        assert set(found.excluded) == chosen & near
    else:
        with pytest.raises(CatalogError, match="no task to train on"):
            roles(catalog, sorted(chosen))


# Paired clusters, as FLAN has them


PAIRS = "[[reading, reading-commonsense], [commonsense, reading-commonsense], [nli, paraphrase]]"
SKILLS = ("commonsense", "nli", "paraphrase", "reading", "reading-commonsense", "sums")


@pytest.mark.parametrize(
    ("held", "excluded"),
    [
        ("reading", {"reading-commonsense": "reading"}),
        ("commonsense", {"reading-commonsense": "commonsense"}),
        ("reading-commonsense", {"commonsense": "reading-commonsense", "reading": "reading-commonsense"}),
        ("nli", {"paraphrase": "nli"}),
        ("paraphrase", {"nli": "paraphrase"}),
        ("sums", {}),
    ],
)
def test_where_a_cluster_is_held_out_its_partners_leave_train(
    held: str, excluded: Mapping[str, str], project: Project
) -> None:
    entries = [entry(skill, skill) for skill in SKILLS]
    for holdout in (f"{{clusters: [{held}]}}", f"{{tasks: [{held}]}}"):
        found = roles(catalog_of(project, *entries, holdout=holdout, pairs=PAIRS))
        assert found.heldout == (held,)
        assert found.excluded == excluded
        assert set(found.train) == {*SKILLS} - {held} - {*excluded}


def test_a_mixture_may_let_the_partners_train(project: Project) -> None:
    entries = [
        entry("a", "nli", derived_from=["o"]),
        entry("b", "paraphrase"),
        entry("c", "paraphrase", derived_from=["o"]),
    ]
    holdout = "{clusters: [nli], paired_clusters: false}"
    found = roles(catalog_of(project, *entries, holdout=holdout, pairs="[[nli, paraphrase]]"))
    assert (found.train, found.excluded) == (("b",), {"c": "a"})


def test_a_partner_that_is_held_out_itself_is_evaluated(project: Project) -> None:
    entries = [entry(skill, skill) for skill in SKILLS]
    found = roles(catalog_of(project, *entries, holdout="{clusters: [nli, paraphrase]}", pairs=PAIRS))
    assert (found.heldout, found.excluded) == (("nli", "paraphrase"), {})


def test_the_pairs_of_the_catalog_that_is_extended_hold_too(project: Project) -> None:
    path = project(
        "version: 1\nextends: builtin\npaired_clusters: [[sentiment, topic]]\n"
        "mixtures:\n  m: {tasks: ['*-sentiment', '*-topics', 'cluster:math'], holdout: {clusters: [topic]}}\n"
    )
    catalog = load_catalog(path)
    chosen = ["review-sentiment", "headline-topics", "worked-arithmetic"]
    assert roles(catalog, chosen).excluded == {"review-sentiment": "headline-topics"}
    assert set(catalog.paired_clusters) >= {("sentiment", "topic")}


@given(
    clusters=st.lists(st.sampled_from("uvwxy"), min_size=len(NAMES), max_size=len(NAMES)),
    derived=st.lists(ORIGINS, min_size=len(NAMES), max_size=len(NAMES)),
    pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=4),
    held=st.sets(st.sampled_from(NAMES), min_size=1, max_size=2),
    skills=st.sets(st.sampled_from("uvwxy"), max_size=1),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_on_any_catalog_no_task_trains_that_a_held_out_one_is_close_to(
    project: Project,
    clusters: list[str],
    derived: list[list[str]],
    pairs: list[tuple[int, int]],
    held: set[str],
    skills: set[str],
) -> None:
    of = dict(zip(NAMES, clusters, strict=True))
    paired = [(clusters[one], clusters[other]) for one, other in pairs]
    entries = [entry(name, of[name], derived_from=own) for name, own in zip(NAMES, derived, strict=True)]
    skills &= {*clusters}
    holdout = f"{{tasks: [{', '.join(sorted(held))}], clusters: [{', '.join(skills)}]}}"
    written = "[" + ", ".join(f"[{one}, {other}]" for one, other in paired) + "]"
    catalog = catalog_of(project, *entries, holdout=holdout, pairs=written)

    out = held | {name for name in NAMES if of[name] in skills}
    connected = components({name: origins(task) for name, task in catalog.tasks.items()})
    near = {name for name in NAMES if connected[name] & out}
    near |= {name for name in NAMES for other in out if {(of[name], of[other]), (of[other], of[name])} & {*paired}}
    if {*NAMES} - out - near:
        found = roles(catalog)
        assert found.heldout == tuple(sorted(out))
        assert set(found.train) == {*NAMES} - out - near
        assert set(found.excluded) == near - out
        assert set(found.excluded.values()) <= out
    else:
        with pytest.raises(CatalogError, match="no task to train on"):
            roles(catalog)

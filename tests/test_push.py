"""`mix push` to the hub and back: the server is proven with the unmodified clients first, then pushed to."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import Ended
from tests.hub.state import Repository
from tests.pushes import FILES, TOKEN, TRAIN, VALIDATION, Mixtures, World, make_mixtures, world

LOAD = """
import datasets, json
found = datasets.load_dataset({arguments})
print(json.dumps({{split: rows.to_list() for split, rows in found.items()}}))
"""
STREAM = """
import datasets, json
found = datasets.load_dataset({arguments}, streaming=True)
print(json.dumps({{split: list(rows) for split, rows in found.items()}}))
"""


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Mixtures:
    """Small mixtures."""
    return make_mixtures(tmp_path_factory.mktemp("mixtures"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mixtures: Mixtures) -> Iterator[World]:
    """A hub and its clients, `datasets` among them."""
    modules = "datasets,pyarrow.parquet,huggingface_hub.hf_api,taskmix.cli.progress,taskmix.sharing.pushing"
    with world(tmp_path_factory.mktemp("world"), mixtures, modules) as made:
        yield made


@pytest.fixture
def hub(place: World) -> World:
    """The hub, in order, with nothing asked yet."""
    place.hub.fail()
    place.hub.set()
    place.hub.forget()
    return place


def pushed(ended: Ended) -> str:
    """Return what a push printed that succeeded."""
    assert ended.code == 0, ended.output
    return ended.stdout


def refusal(ended: Ended, code: int = 1) -> str:
    """Return the message of a run that failed as an understood failure does."""
    assert ended.code == code, ended.output
    assert "Traceback" not in ended.output
    assert ended.stdout == ""
    _, error, message = ended.stderr.partition("error: ")
    assert error, ended.stderr
    return message


def rows(ended: Ended) -> dict[str, list[dict[str, object]]]:
    """Return the rows that a script printed, by split."""
    assert ended.code == 0, ended.output
    found: dict[str, list[dict[str, object]]] = json.loads(ended.stdout.splitlines()[-1])
    return found


def sent(hub: World) -> list[str]:
    """Return the sha256 of each large file that was put into the storage."""
    asked = [each for each in hub.hub.asked("storage") if each.method == "PUT" and each.status == 200]
    return sorted(re.findall(r"[0-9a-f]{64}", each.path)[0] for each in asked)


def sha256(hub: World, name: str, path: str) -> str:
    """Return the hash that a mixture's lock has of a file."""
    lock = json.loads((hub.mixtures[name] / "mix.lock.json").read_bytes())
    return str(lock["outputs"][path]["sha256"])


def repository(hub: World, id: str) -> Repository:
    return hub.hub.find(id)


# The server, by the clients that it was not written for.


def test_unmodified_clients_push_and_load(hub: World) -> None:
    script = f"""
import datasets
from huggingface_hub import HfApi
api = HfApi()
print(api.whoami()["name"], [each["name"] for each in api.whoami()["orgs"]])
api.create_repo("org/folder", repo_type="dataset", private=True)
api.upload_folder(repo_id="org/folder", folder_path={str(hub.mixtures["a"])!r}, repo_type="dataset")
api.create_tag("org/folder", tag="v1", repo_type="dataset")
api.create_branch("org/folder", branch="other", repo_type="dataset")
rows = datasets.load_dataset("org/folder")
rows["train"].push_to_hub("org/rows", split="train")
assert datasets.load_dataset("org/rows", split="train").to_list() == rows["train"].to_list()
rows["validation"].push_to_hub("org/rows", split="train", create_pr=True)
pull = next(iter(api.get_repo_discussions("org/rows", repo_type="dataset")))
assert pull.is_pull_request and pull.num == 1, pull
again = datasets.load_dataset("org/rows", revision="refs/pr/1", split="train")
assert again.to_list() == rows["validation"].to_list()
refs = api.list_repo_refs("org/folder", repo_type="dataset")
print([each.ref for each in refs.branches + refs.tags])
"""
    done = hub.forks.script(script)
    assert done.code == 0, done.output
    assert done.stdout.splitlines()[0] == "someone ['org']"
    assert done.stdout.splitlines()[-1] == "['refs/heads/main', 'refs/heads/other', 'refs/tags/v1']"
    assert hub.name_of("org/folder") == "a"
    assert repository(hub, "org/folder").read()["private"]


def test_the_client_sends_large_files_in_parts_and_lists_page_by_page(hub: World) -> None:
    hub.hub.set(part=1000, page=2)
    script = f"""
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("org/parts", repo_type="dataset")
api.upload_folder(repo_id="org/parts", folder_path={str(hub.mixtures["a"])!r}, repo_type="dataset")
print(len(list(api.list_repo_tree("org/parts", recursive=True, repo_type="dataset"))))
"""
    done = hub.forks.script(script)
    assert (done.code, done.stdout) == (0, "6\n"), done.output
    assert hub.name_of("org/parts") == "a"
    assert len(sent(hub)) > 2


def test_the_server_refuses_what_the_hub_refuses(hub: World) -> None:
    script = """
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
api, kind = HfApi(), {"repo_type": "dataset"}
api.create_repo("org/strict", **kind)
parent = api.dataset_info("org/strict").sha
add = lambda content: [CommitOperationAdd("a.txt", content)]
api.create_commit("org/strict", add(b"1"), commit_message="one", parent_commit=parent, **kind)
api.create_tag("org/strict", tag="v1", **kind)
for action in (
    lambda: api.create_repo("org/strict", **kind),
    lambda: api.create_repo("strangers/strict", **kind),
    lambda: api.create_commit("org/strict", add(b"2"), commit_message="two", parent_commit=parent, **kind),
    lambda: api.create_commit("org/strict", [CommitOperationDelete("b.txt")], commit_message="gone", **kind),
    lambda: api.create_commit("org/strict", add(b"2"), commit_message="two", revision="nowhere", **kind),
    lambda: api.create_tag("org/strict", tag="v1", **kind),
):
    try:
        action()
        print("done")
    except HfHubHTTPError as error:
        print(error.response.status_code)
try:
    api.create_commit("org/strict", [CommitOperationAdd("README.md", b"---\\nlicense: mine\\n---\\n")],
                      commit_message="card", **kind)
except ValueError as error:
    print(str(error).splitlines()[-1])
"""
    done = hub.forks.script(script)
    assert done.code == 0, done.output
    assert done.stdout.splitlines() == [
        "409",
        "403",
        "412",
        "404",
        "404",
        "409",
        '- "license" must be one of the known: mine',
    ]


# What a push does.


def test_a_push_makes_one_commit_and_the_rows_are_loaded_and_streamed(hub: World) -> None:
    said = pushed(hub.push("a", "org/one", "--tag", "v1"))
    assert "the public repository org/one: made" in said
    assert hub.name_of("org/one") == "a"
    assert repository(hub, "org/one").log() == ["Push the mixture a", "initial commit"]
    state = repository(hub, "org/one").read()
    assert state["refs"]["refs/tags/v1"] == state["refs"]["refs/heads/main"]
    assert f"commit {state['refs']['refs/heads/main']}, checked by the hub's hashes" in said
    local = rows(hub.forks.script(LOAD.format(arguments=repr(str(hub.mixtures["a"])))))
    assert set(local) == {"train", "validation"}
    assert rows(hub.forks.script(LOAD.format(arguments="'org/one'"))) == local
    assert rows(hub.forks.script(STREAM.format(arguments="'org/one', revision='v1'"))) == local


def test_a_second_push_sends_nothing_and_commits_nothing(hub: World) -> None:
    pushed(hub.push("a", "org/twice"))
    hub.hub.forget()
    assert "all of it is there already; nothing was sent" in pushed(hub.push("a", "org/twice"))
    assert [each.method for each in hub.hub.asked()] == ["GET", "GET"]
    assert len(repository(hub, "org/twice").log()) == 2


def test_a_changed_mixture_sends_only_the_shards_that_changed(hub: World) -> None:
    pushed(hub.push("a", "org/changed"))
    hub.hub.forget()
    said = pushed(hub.push("b", "org/changed", "--message", "More of it"))
    assert sent(hub) == [sha256(hub, "b", VALIDATION)]
    assert f"{TRAIN}: sent" not in said
    assert "1 were there" in said
    assert hub.name_of("org/changed") == "b"
    assert repository(hub, "org/changed").log()[0] == "More of it"


def test_what_the_mixture_no_longer_has_goes_in_the_same_commit(hub: World) -> None:
    before: dict[str, bytes | str | None] = {
        **hub.mixtures.files("a"),
        "data/train-00000-of-00002.parquet": b"old",
        "LICENSE": "mine",
    }
    repository(hub, "org/gone").create().commit(before)
    said = pushed(hub.push("b", "org/gone"))
    assert "data/train-00000-of-00002.parquet: deleted" in said
    assert hub.files("org/gone") == {**hub.mixtures.files("b"), "LICENSE": b"mine"}
    assert len(repository(hub, "org/gone").log()) == 2


def test_what_was_sent_before_an_interruption_is_not_sent_again(hub: World) -> None:
    hub.hub.fail({"match": "POST .*/commit/", "status": 403})
    message = refusal(hub.push("a", "org/resumed"))
    assert "main is unchanged" in message
    assert len(sent(hub)) == 2
    hub.hub.fail()
    hub.hub.forget()
    found = json.loads(pushed(hub.push("a", "org/resumed", "--json")))
    assert sent(hub) == []
    assert found["stored"] == sum((hub.mixtures["a"] / path).stat().st_size for path in (TRAIN, VALIDATION))
    assert hub.name_of("org/resumed") == "a"


def test_large_files_go_in_parts_and_many_files_are_listed_page_by_page(hub: World) -> None:
    hub.hub.set(part=1000, page=2)
    pushed(hub.push("a", "org/in-parts"))
    assert len(sent(hub)) > 2
    assert hub.name_of("org/in-parts") == "a"
    assert "nothing was sent" in pushed(hub.push("a", "org/in-parts"))


def test_a_dry_run_changes_nothing_and_says_what_would_happen(hub: World) -> None:
    said = pushed(hub.push("a", "org/dry", "--dry-run", "--private", "--tag", "v1"))
    assert "the private repository org/dry: would be made" in said
    assert all(f"{path}: would be sent" in said for path in FILES)
    assert "tag v1 would be made" in said
    assert {each.method for each in hub.hub.asked()} == {"GET"}
    assert not repository(hub, "org/dry").path.exists()


def test_a_private_repository_is_seen_only_by_those_who_may(hub: World) -> None:
    pushed(hub.push("a", "org/private", "--private"))
    assert repository(hub, "org/private").read()["private"]
    load = LOAD.format(arguments="'org/private'")
    # in this order: what was loaded once, the client gives to anybody from its cache
    assert "doesn't exist on the Hub or cannot be accessed" in hub.forks.script(load, HF_TOKEN="").stderr
    assert set(rows(hub.forks.script(load))) == {"train", "validation"}
    hub.hub.add_token("hf_stranger", "stranger")
    message = refusal(hub.push("a", "org/private", HF_TOKEN="hf_stranger"))
    assert "org/private@main: " in message
    assert "log in" in message


def test_a_public_repository_is_not_taken_for_a_private_one(hub: World) -> None:
    pushed(hub.push("a", "org/public"))
    assert "the repository is public, and --private was asked for" in refusal(hub.push("b", "org/public", "--private"))
    assert hub.name_of("org/public") == "a"


def test_a_branch_is_made_from_main_and_main_stays(hub: World) -> None:
    pushed(hub.push("a", "org/branched"))
    said = pushed(hub.push("b", "org/branched", "--revision", "draft/two", "--tag", "t"))
    assert "the branch draft/two: made" in said
    assert hub.name_of("org/branched") == "a"
    assert hub.name_of("org/branched", "refs/heads/draft/two") == "b"
    assert "nothing was sent" in pushed(hub.push("b", "org/branched", "--revision", "draft/two"))
    arguments = "'org/branched', revision='draft/two'"
    assert len(rows(hub.forks.script(LOAD.format(arguments=arguments)))["validation"]) == 5


def test_a_pull_request_leaves_main_and_is_opened_once(hub: World) -> None:
    pushed(hub.push("a", "org/pulled"))
    assert "pull request 1" in pushed(hub.push("b", "org/pulled", "--create-pr", "--message", "A proposal"))
    assert hub.name_of("org/pulled") == "a"
    assert hub.name_of("org/pulled", "refs/pr/1") == "b"
    assert "in pull request 1 already" in pushed(hub.push("b", "org/pulled", "--create-pr"))
    assert "pull request 2" in pushed(hub.push("c", "org/pulled", "--create-pr"))
    assert [pull["title"] for pull in repository(hub, "org/pulled").read()["pulls"].values()] == [
        "A proposal",
        "Push the mixture c",
    ]
    # onto a pull request that is there, as onto a branch
    pushed(hub.push("c", "org/pulled", "--revision", "refs/pr/1"))
    assert hub.name_of("org/pulled", "refs/pr/1") == "c"


def test_a_tag_is_never_moved_and_is_looked_at_before_anything_is_sent(hub: World) -> None:
    pushed(hub.push("a", "org/tagged", "--tag", "v1"))
    hub.hub.forget()
    assert "the tag v1 is there already, on commit" in refusal(hub.push("b", "org/tagged", "--tag", "v1"))
    assert hub.name_of("org/tagged") == "a"
    assert sent(hub) == []
    assert "tag v1" in pushed(hub.push("a", "org/tagged", "--tag", "v1"))
    assert "tag v2" in pushed(hub.push("a", "org/tagged", "--tag", "v2"))


def test_several_mixtures_live_in_one_repository_as_configurations(hub: World) -> None:
    pushed(hub.push("a", "org/several", "--config", "small"))
    said = pushed(hub.push("b", "org/several", "--config", "larger", "--tag", "both"))
    assert "larger/mix.lock.json: sent" in said
    assert "small/" not in said
    found = hub.files("org/several")
    card = found["README.md"].decode()
    own = {**hub.mixtures.files("a", "small/"), **hub.mixtures.files("b", "larger/")}
    assert found == {**own, "README.md": card.encode()}
    assert re.findall(r"- config_name: (\w+)", card) == ["larger", "small"]
    assert len(rows(hub.forks.script(LOAD.format(arguments="'org/several', 'small'")))["validation"]) == 4
    assert len(rows(hub.forks.script(LOAD.format(arguments="'org/several', 'larger'")))["validation"]) == 5
    assert "nothing was sent" in pushed(hub.push("b", "org/several", "--config", "larger"))
    assert "name the one to push with --config: larger, small" in refusal(hub.push("a", "org/several"))
    verified = hub.forks.mix("verify", "hf://datasets/org/several@both/small")
    assert "3 files and 34 rows" in pushed(verified)
    whole = refusal(hub.forks.mix("verify", "hf://datasets/org/several"))
    assert "name one: hf://datasets/org/several/larger, hf://datasets/org/several/small" in whole


def test_build_and_push_in_one_go(hub: World, tmp_path: Path) -> None:
    catalog = str(hub.mixtures.root / "catalog.yaml")
    arguments = ("push", str(tmp_path / "out"), "org/built", "--build", "a", "--catalog", catalog)
    pushed(hub.forks.mix(*arguments))
    assert hub.name_of("org/built") == "a"
    assert "go with --build" in refusal(hub.forks.mix(*arguments[:3], "--catalog", catalog), code=2)


# What a push refuses.


def test_a_folder_that_is_not_what_its_lock_says_is_not_pushed(hub: World, tmp_path: Path) -> None:
    for path, content in hub.mixtures.files("a").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / TRAIN).write_bytes(b"x" + (tmp_path / TRAIN).read_bytes()[1:])
    assert f"{TRAIN}: its content was changed" in refusal(hub.forks.mix("push", str(tmp_path), "org/damaged"))
    assert hub.hub.asked() == []


def test_another_dataset_is_neither_hidden_nor_deleted(hub: World) -> None:
    repository(hub, "org/other").create().commit({".gitattributes": "", "train.csv": "a,b\n", "README.md": "Mine."})
    assert "the repository is no mixture: it has train.csv, but no mix.lock.json" in refusal(hub.push("a", "org/other"))
    repository(hub, "org/empty").create().commit({".gitattributes": "", "README.md": "Mine.", "LICENSE": "mine"})
    pushed(hub.push("a", "org/empty"))


@pytest.mark.parametrize(
    ("destination", "options", "message"),
    [
        ("org/x", ("--create-pr", "--tag", "v1"), "--tag does not go with --create-pr"),
        ("org/x", ("--create-pr", "--revision", "draft"), "--create-pr proposes a change of main"),
        ("org/x", ("--revision", "0123456789" * 4), "nothing can be pushed to a commit"),
        ("org/x", ("--tag", "a b"), "a tag cannot be named 'a b'"),
        ("org/x", ("--config", "data"), "a configuration cannot be named 'data'"),
        ("memory://x", ("--tag", "v1"), "--tag is for the hub alone"),
        ("memory://x", ("--revision", "v1"), "--revision is for the hub alone"),
        ("https://example.org/x", (), "not a place for a mixture"),
        ("hf://datasets/org", (), "not the address of a dataset"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    hub: World, destination: str, options: tuple[str, ...], message: str
) -> None:
    assert message in refusal(hub.push("a", destination, *options), code=2)
    assert hub.hub.asked() == []


def test_who_is_not_logged_in_or_may_not_write_is_told(hub: World) -> None:
    assert "nobody is logged in to the hub" in refusal(hub.push("a", "org/nobody", HF_TOKEN=""))
    expired = refusal(hub.push("a", "org/nobody", HF_TOKEN="hf_expired"))
    assert "Invalid credentials" in expired
    assert "hf auth login" in expired
    foreign = refusal(hub.push("a", "strangers/foreign"))
    assert "making the repository failed: You don't have the rights to write to this repository" in foreign


def test_the_login_cache_gives_the_token(hub: World) -> None:
    token = hub.hub.folder.parent / "huggingface" / "token"
    token.write_text(TOKEN)
    pushed(hub.push("a", "org/logged-in", HF_TOKEN=""))
    token.unlink()


# And back.


def test_a_mixture_on_the_hub_is_verified_and_kept(hub: World) -> None:
    pushed(hub.push("a", "org/back", "--tag", "v1"))
    pushed(hub.push("b", "org/back"))
    first = hub.forks.mix("verify", "hf://datasets/org/back@v1", "--json")
    assert json.loads(pushed(first)) == {"ok": True, "files": 3, "rows": 34}
    assert json.loads(pushed(hub.forks.mix("verify", "hf://datasets/org/back", "--json")))["rows"] == 35
    hub.hub.forget()
    pushed(hub.forks.mix("verify", "hf://datasets/org/back@v1"))
    assert not [each for each in hub.hub.asked() if "resolve" in each.path]


def test_a_mixture_is_built_by_the_lock_of_one_on_the_hub_and_compared_with_it(hub: World, tmp_path: Path) -> None:
    pushed(hub.push("a", "org/locked"))
    root, address = hub.mixtures.root, "hf://datasets/org/locked"
    options = ("--catalog", str(root / "catalog.yaml"), "--lock", address)
    pushed(hub.forks.mix("build", "a", "--out", str(tmp_path / "again"), *options))
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").rglob("*") if path.is_file()}
    assert again == {Path(name).name: content for name, content in hub.mixtures.files("a").items()}
    assert "the lock is of other inputs" in refusal(hub.forks.mix("build", "b", "--out", str(tmp_path / "b"), *options))
    missing = hub.forks.mix("build", "a", "--lock", "no/such/lock", "--catalog", str(root / "catalog.yaml"))
    assert "'no/such/lock' does not exist" in missing.output
    same = hub.forks.mix("diff", address, str(hub.mixtures["a"]), "--exit-code")
    other = hub.forks.mix("diff", address, str(hub.mixtures["b"]), "--exit-code")
    assert (same.code, other.code) == (0, 1), (same.output, other.output)


@pytest.mark.parametrize(
    ("damage", "path"),
    [
        ("flip", TRAIN),
        ("flip", "mix.lock.json"),
        ("flip", "README.md"),
        ("cut", VALIDATION),
        ("portal", "mix.lock.json"),
    ],
)
def test_a_damaged_download_is_refused_named_and_not_kept(hub: World, path: str, damage: str, tmp_path: Path) -> None:
    id, cache = f"org/damaged-{damage}", str(tmp_path)
    if not repository(hub, id).path.exists():
        pushed(hub.push("a", id))
    entry = repository(hub, id).read()
    stored = hub.hub.folder / "objects" / entry["commits"][entry["refs"]["refs/heads/main"]]["files"][path]["sha256"]
    whole = stored.read_bytes()
    broken = {"flip": bytes([whole[0] ^ 1]) + whole[1:], "cut": whole[:-7], "portal": b"<html>Log in</html>"}[damage]
    stored.write_bytes(broken)
    message = refusal(hub.forks.mix("verify", f"hf://datasets/{id}", TASKMIX_CACHE=cache))
    assert path in message
    assert not [each for each in tmp_path.rglob("*") if each.is_file() and each.name != ".lock"]
    stored.write_bytes(whole)
    pushed(hub.forks.mix("verify", f"hf://datasets/{id}", TASKMIX_CACHE=cache))


def test_what_is_no_mixture_or_holds_more_than_the_lock_says_is_refused(hub: World) -> None:
    repository(hub, "org/plain").create().commit({"README.md": "Nothing."})
    assert "no mixture: it has no mix.lock.json" in refusal(hub.forks.mix("verify", "hf://datasets/org/plain"))
    more = {**hub.mixtures.files("a"), "data/train-00001-of-00001.parquet": b"more"}
    repository(hub, "org/more").create().commit(more)
    assert "data/train-00001-of-00001.parquet is not of the mixture" in refusal(
        hub.forks.mix("verify", "hf://datasets/org/more")
    )
    other = {**hub.mixtures.files("a"), TRAIN: hub.mixtures.files("c")[TRAIN]}
    repository(hub, "org/blend").create().commit(other)
    assert TRAIN in refusal(hub.forks.mix("verify", "hf://datasets/org/blend"))
    assert "the hub has no such dataset" in refusal(hub.forks.mix("verify", "hf://datasets/org/nothing"))
    assert "the hub has no such revision" in refusal(hub.forks.mix("verify", "hf://datasets/org/more@gone"))


def test_a_damaged_copy_in_the_cache_is_downloaded_again(hub: World) -> None:
    pushed(hub.push("c", "org/cached"))
    pushed(hub.forks.mix("verify", "hf://datasets/org/cached"))
    (kept,) = (hub.hub.folder.parent / "cache" / "mixtures" / "hub" / "org--cached").rglob(TRAIN)
    kept.write_bytes(b"damaged")
    pushed(hub.forks.mix("verify", "hf://datasets/org/cached"))
    assert kept.read_bytes() == hub.mixtures.files("c")[TRAIN]

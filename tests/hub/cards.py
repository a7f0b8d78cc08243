"""What the hub says of a dataset card's front matter when a commit brings one."""

import re

import yaml

LICENCES = frozenset(
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode- "
    "openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 "
    "cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 "
    "cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla- "
    "sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 "
    "eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl apple-ascl mpl-2.0 "
    "odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license "
    "llama2 llama3 gemma unknown other".split()
)
SIZES = frozenset(
    "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T".split()
)
_FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)


def faults_of_card(text: str) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings that the hub has for a dataset card."""
    found = _FRONT.match(text)
    if not found:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        front = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"invalid yaml: {error}"], []
    if not isinstance(front, dict):
        return ["the metadata must be an object"], []
    errors = [f'"{key}" must be one of the known: {each}' for key, each in _unknown(front)]
    errors += [f'"{key}" must be an array' for key in ("configs", "tags") if not isinstance(front.get(key, []), list)]
    return errors, []


def _unknown(front: dict[str, object]) -> list[tuple[str, object]]:
    known = {"license": LICENCES, "size_categories": SIZES}
    return [(key, each) for key in known for each in _listed(front.get(key, [])) if each not in known[key]]


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]

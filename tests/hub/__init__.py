"""A dataset hub on loopback: the hub's protocol, spoken to the unmodified `datasets` and `huggingface_hub`.

It runs as a process of its own, `python -m tests.hub.server FOLDER`, and prints its two addresses as one line of
JSON: the hub's, and that of the storage which the hub sends clients on to for large files, as the real one does.
It ends when its standard input does. All that it knows lies in FOLDER and is read again for each request, so that a
test may change it while it runs:

    repositories/ORG/NAME.json   commits, refs, pull requests, and who may read (a `Repository`)
    objects/SHA256               the contents of files
    incoming/SHA256              what was uploaded and not yet verified
    tokens.json, orgs.json       {token: user}, {user: [organisation]}
    settings.json                {"part": bytes from which uploads come in parts, "page": entries a page of a tree}
    faults.json                  what is to go wrong (see `Hub.fail`)
    requests.jsonl               what was asked, one request a line, written when its answer is known
"""

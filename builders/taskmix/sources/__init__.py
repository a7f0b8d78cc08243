"""Where rows come from: hub datasets and local files, always read as files of this machine."""

"""What carries out a plan: on this machine, or on a Ray cluster, with the same bytes."""

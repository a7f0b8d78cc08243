"""Which examples are read when: a plan that depends on the seed, the budget and the lengths alone."""

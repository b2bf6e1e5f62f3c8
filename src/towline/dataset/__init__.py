"""A look at a dataset before money is spent: what it is, what is in it, what is wrong with it."""

"""The tests. This is a package, so that an installed package called ``tests`` cannot shadow it."""

"""The tests of jaxreg. README.md says how they are run."""

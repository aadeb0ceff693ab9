"""The subcommands of `jaxreg`, one file each."""

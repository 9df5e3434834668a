"""One file per group of commands. Each is thin: parse options, call the package that does the work, print."""

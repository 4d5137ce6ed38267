"""One file per verb of the command line. Programs do not import each other, except `demo` and `sweep`."""

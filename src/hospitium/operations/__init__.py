"""What a person can do; returns data and prints nothing. The command line and the pages call it."""

"""One module for each subcommand of the console command, and beside it what only that one needs."""

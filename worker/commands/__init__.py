"""One module for each subcommand of the console command."""

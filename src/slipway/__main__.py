"""Entry point of `python -m slipway`. Short because the command line is `slipway.cli.app`."""

from slipway.cli.app import main

main()

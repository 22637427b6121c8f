"""Slipway fine-tunes a language model and ships it: plain functions, one per stage, no orchestrator inside."""

__version__ = "0.1.0"

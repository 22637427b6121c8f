"""Agents on the served model: a simulated home, its tools, who asks the model and calls them, and tasks with their end
states. (`slipway.agent`, without s, is the program that stands on a target.)"""

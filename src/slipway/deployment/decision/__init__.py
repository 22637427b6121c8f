"""Who may replace what: policy, routing, the record of a decision and its explanation."""

"""What a served model is worth: quality, speed, statistics, the gate's rules."""

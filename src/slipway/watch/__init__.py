"""What serves, looked at week after week: does it answer as it did when it was released, and to the same inputs?"""

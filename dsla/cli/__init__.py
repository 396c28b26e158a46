"""What a person types, one file a command where it is more than a call."""

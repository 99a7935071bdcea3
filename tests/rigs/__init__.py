"""What tests stand on: a broker in memory, a loop to drive, workers as processes, the method in plain Python."""

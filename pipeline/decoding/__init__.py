"""What a message's bytes hold: fields by their paths, times, numbers. Knows neither events nor streams."""

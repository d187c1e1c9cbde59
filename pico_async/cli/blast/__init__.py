"""`pico blast`: send one message to each row of a CSV file."""

"""`pico doctor`: check what a session needs, step by step, from this machine to the account's balance."""

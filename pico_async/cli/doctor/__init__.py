"""`pico doctor`: what a session needs, checked one by one from this machine to the account's balance."""

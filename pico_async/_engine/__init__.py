"""How one call is made. Private: import from `pico_async` instead."""

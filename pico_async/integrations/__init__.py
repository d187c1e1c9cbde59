"""Where pico_async meets other frameworks: one module each, in that framework's own idiom."""

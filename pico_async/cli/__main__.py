"""`python -m pico_async.cli`: the same as `pico`."""

from pico_async.cli import main

if __name__ == "__main__":
    main()

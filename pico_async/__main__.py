"""`python -m pico_async`: the same as `pico`, for a shell that has another `pico` or none."""

from pico_async.cli import main

if __name__ == "__main__":
    main()

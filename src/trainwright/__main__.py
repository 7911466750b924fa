"""`python -m trainwright`."""

from trainwright.cli.main import run

if __name__ == "__main__":
    run()

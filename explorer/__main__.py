"""`python -m explorer …`: the headless verbs."""

from explorer.cli import main

if __name__ == "__main__":
    main()

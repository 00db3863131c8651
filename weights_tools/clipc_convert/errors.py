"""What is said to the user."""


class Refused(Exception):
    """The input cannot be converted; the sentence says why. Exit status 2."""


class Failed(Exception):
    """Reading or writing did not succeed. Exit status 1."""

"""Derivatives, checked: a written derivative is compared with the derived one and with differences of the formula."""

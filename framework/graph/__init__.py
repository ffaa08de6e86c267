"""Graph: a formula is called once on symbols, and everything else reads the record of what it did.

formula (plain NumPy) --trace--> graph --gradient--> graph --emit--> NumPy, kernel, text, LaTeX
"""

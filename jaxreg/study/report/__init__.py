"""What people see of a finished study: one self-contained page (`page.py`) and one picture for a
README (`picture.py`).
"""

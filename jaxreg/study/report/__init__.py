"""A finished study as one self-contained page (`page.py`) and a README picture (`picture.py`)."""

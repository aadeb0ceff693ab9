"""`python -m jaxreg.data.text FILE`: imports the archive of a published package of prose."""

import sys

from jaxreg.data.text.corpora import main

sys.exit(main(sys.argv[1:]))

"""AGREE: subject-verb agreement in 15 frames of English."""

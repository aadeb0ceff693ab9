"""What several test files share: small studies, numbers by hand, processes, fake services."""

"""What each call of the manager changes, decided against a view: values in, journal records out, no I/O."""

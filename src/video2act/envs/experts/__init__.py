"""Scripted demonstrators. They read the simulator's privileged state, which no policy is shown."""
